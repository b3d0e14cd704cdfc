// A proxy that does TLS, written with Express: node express_proxy.mjs UPSTREAM CERTIFICATE KEY. It prints its port.
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:https";
import express from "express";

const [upstream, certificate, key] = process.argv.slice(2);
const app = express();
app.use((incoming, outgoing) => {
  const client = incoming.socket.remoteAddress;
  const claimed = incoming.headers["x-forwarded-for"];
  const headers = {
    ...incoming.headers,
    "x-forwarded-for": claimed ? `${claimed}, ${client}` : client,
    "x-forwarded-host": incoming.headers.host,
    "x-forwarded-proto": "https",
  };
  const passed = request(`${upstream}${incoming.originalUrl}`, { method: incoming.method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  passed.on("error", () => outgoing.headersSent || outgoing.status(502).end());
  outgoing.on("close", () => passed.destroy());
  incoming.pipe(passed);
});
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, app);
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
