// Runs tests with the CPython that a version of the npm package pyodide carries (WebAssembly):
// a real interpreter of that version, without threads, processes, sockets and C extensions.
//
// node run.mjs <directory with node_modules> <the repository> <directory of pure packages> [pytest's arguments]

import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [home, repository, packages, ...args] = process.argv.slice(2);
const { resolve } = createRequire(path.resolve(home, "package.json"));
const { loadPyodide } = await import(pathToFileURL(resolve("pyodide/pyodide.mjs")));

const python = await loadPyodide({
  env: { HOME: "/home", PYTHONDONTWRITEBYTECODE: "1", PYTEST_DISABLE_PLUGIN_AUTOLOAD: "1" },
  stdout: (line) => console.log(line),
  stderr: (line) => console.error(line),
});
for (const [there, here] of [["/repository", repository], ["/packages", packages]]) {
  python.FS.mkdirTree(there);
  python.FS.mount(python.FS.filesystems.NODEFS, { root: path.resolve(here) }, there);
}
python.globals.set("arguments", python.toPy(args));
process.exitCode = await python.runPythonAsync(`
import os, sys
sys.path[:0] = ["/repository/src", "/packages", "/repository/tests", "/repository/tests/pythons"]
os.chdir("/repository")
import lacking
lacking.main(arguments)
`);
