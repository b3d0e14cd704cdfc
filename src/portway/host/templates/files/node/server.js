// Serves the app on the port PORT to callers with the token MCP_API_TOKEN.

import { createApp } from "./app.js";

const { MCP_API_TOKEN, MCP_ALLOWED_HOSTS = "", RENDER_EXTERNAL_HOSTNAME = "", PORT = "8080" } = process.env;
if (!MCP_API_TOKEN) {
  console.error("MCP_API_TOKEN is not set: copy .env.example to .env and write a long random token into it");
  process.exit(1);
}
// The names under which clients reach this server: the platform's own, and yours.
const hosts = [RENDER_EXTERNAL_HOSTNAME, ...MCP_ALLOWED_HOSTS.split(",")].map((host) => host.trim()).filter(Boolean);
const listener = createApp(MCP_API_TOKEN, hosts).listen(Number(PORT), "0.0.0.0", () => {
  console.log(`listening on port ${listener.address().port}`);
});
// Calls in flight end before the process does; streams that stay open do not hold it up.
process.on("SIGTERM", () => {
  listener.close(() => process.exit(0));
  setTimeout(() => listener.closeAllConnections(), 25_000).unref();
});
