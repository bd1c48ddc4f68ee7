// Makes one session with the real express-session, in a process of its own.
//
//     node old_express.cjs '{"store": "redis" | "postgresql", "url": …, …}'
//
// prints the cookie's value and what the old app itself sees when that cookie comes back. NODE_PATH
// says where the old libraries are.
"use strict";

const http = require("node:http");
const express = require("express");
const session = require("express-session");

const options = JSON.parse(process.argv[2]);

async function redisStore() {
  const redis = require("redis");
  const url = new URL(options.url);
  const where = url.protocol === "unix:" ? { socket: { path: url.pathname } } : { url: options.url };
  const client = redis.createClient(where);
  await client.connect();
  const library = require("connect-redis");
  const RedisStore = library.RedisStore || library.default;
  return [new RedisStore({ client, ...options.storeOptions }), () => client.disconnect()];
}

async function postgresqlStore() {
  const { Pool } = require("pg");
  const PgStore = require("connect-pg-simple")(session);
  const pool = new Pool(options.pool);
  const store = new PgStore({ pool, createTableIfMissing: true, pruneSessionInterval: false });
  return [store, () => pool.end()];
}

function get(port, path, cookie) {
  return new Promise((resolve, reject) => {
    const headers = cookie ? { Cookie: cookie } : {};
    http
      .get({ host: "127.0.0.1", port, path, headers }, (response) => {
        let body = "";
        response.on("data", (chunk) => (body += chunk));
        response.on("end", () => resolve({ body, set: response.headers["set-cookie"] || [] }));
      })
      .on("error", reject);
  });
}

async function main() {
  const [store, close] = await (options.store === "redis" ? redisStore() : postgresqlStore());
  const app = express();
  app.use(
    session({
      store,
      secret: options.secret,
      resave: false,
      saveUninitialized: false,
      cookie: options.cookie || {},
      ...options.sessionOptions,
    }),
  );
  app.get("/set", (request, response) => {
    Object.assign(request.session, options.sample);
    response.send("-");
  });
  app.get("/get", (request, response) => response.send(String(request.session.user_id)));
  app.get("/end", (request, response) => request.session.destroy(() => response.send("-")));
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const port = server.address().port;

  const [name, value] = (await get(port, "/set")).set[0].split(";")[0].split("=");
  const cookie = `${name}=${value}`;
  const live = (await get(port, "/get", cookie)).body;
  if (options.end) await get(port, "/end", cookie);
  console.log(JSON.stringify({ name, cookie: value, live, made_at: Date.now() / 1000 }));
  server.close();
  await close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
