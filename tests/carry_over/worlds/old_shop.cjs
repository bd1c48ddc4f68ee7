// The shop of old_shop.py on express-session, whose sessions are in Redis. NODE_PATH says where the
// old libraries are; PORT and OLD_STORE, a URL, come from the environment.
"use strict";

const express = require("express");
const session = require("express-session");
const redis = require("redis");
const library = require("connect-redis");

async function main() {
  const client = redis.createClient({ url: process.env.OLD_STORE });
  await client.connect();
  const RedisStore = library.RedisStore || library.default;
  const app = express();
  app.use(
    session({
      store: new RedisStore({ client }),
      secret: "the old shop's secret, which is long enough",
      resave: false,
      saveUninitialized: false,
    }),
  );
  app.get("/:action", (request, response) => {
    const word = request.url.split("?")[1] || "";
    const kept = request.session;
    if (request.params.action === "login") Object.assign(kept, { user_id: word, cart: [] });
    if (request.params.action === "add") kept.cart = [...(kept.cart || []), word];
    const answer = [kept.user_id || null, kept.cart || []];
    if (request.params.action !== "logout") return response.json(answer);
    kept.destroy(() => response.json([null, []]));
  });
  const server = app.listen(Number(process.env.PORT), "127.0.0.1");
  // As any shop that is replaced without an outage: what was begun is answered.
  process.on("SIGTERM", () => server.close(() => process.exit(0)));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
