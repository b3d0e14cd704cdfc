// An official TypeScript client uses every feature of tests/clients/feature_server.py, and prints what it saw as one JSON line.
// node features.mjs '{"client": "v1" | "v2", "mode"?: "legacy" | "2026-07-28", "url"?, "token"?, "command"?: [...]}'
const { client: major, mode = "legacy", url, token, command } = JSON.parse(process.argv[2]);
const modern = mode !== "legacy";

const v1 = "@modelcontextprotocol/sdk/client";
const v2 = "@modelcontextprotocol/client";
const { Client } = await import(major === "v1" ? `${v1}/index.js` : v2);
const { StreamableHTTPClientTransport } = await import(major === "v1" ? `${v1}/streamableHttp.js` : v2);
const { StdioClientTransport } = await import(major === "v1" ? `${v1}/stdio.js` : `${v2}/stdio`);
const types = major === "v1" ? await import("@modelcontextprotocol/sdk/types.js") : null;

const transport = command
  ? new StdioClientTransport({ command: command[0], args: command.slice(1), stderr: "inherit" })
  : new StreamableHTTPClientTransport(new URL(url), {
      requestInit: token ? { headers: { Authorization: `Bearer ${token}` } } : {},
    });
const capabilities = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
const versionNegotiation = { mode: modern ? { pin: mode } : mode };
const client = new Client({ name: "features-test", version: "1" }, { capabilities, versionNegotiation });

// v1 registers handlers by schema, v2 by method.
const schema = (name) => types?.[name];
const answer = (method, name, handler) => client.setRequestHandler(schema(name) ?? method, handler);
const onNotification = (method, name, handler) => client.setNotificationHandler(schema(name) ?? method, handler);

const seen = { questions: [], logs: [], progress: [] };
answer("elicitation/create", "ElicitRequestSchema", async ({ params }) => {
  seen.questions.push(params.url ?? params.message);
  if (params.mode === "url") return { action: "decline" };
  const fields = Object.keys(params.requestedSchema.properties);
  if (fields.includes("city")) return { action: "accept", content: { city: "Oslo", days: 2 } };
  return { action: "accept", content: { [fields[0]]: fields[0] === "sure" ? true : "Ada" } };
});
answer("sampling/createMessage", "CreateMessageRequestSchema", async ({ params }) => {
  seen.questions.push([params.messages[0].content].flat()[0].text);
  return { model: "m", role: "assistant", content: { type: "text", text: "Hello" } };
});
answer("roots/list", "ListRootsRequestSchema", async () => ({ roots: [{ uri: "file:///home" }] }));
onNotification("notifications/message", "LoggingMessageNotificationSchema", ({ params }) => seen.logs.push([params.level, params.data]));

const changes = new Set();
const bothChanges = new Promise((resolve) => {
  const note = (what) => changes.add(what) && changes.size === 2 && resolve();
  onNotification("notifications/tools/list_changed", "ToolListChangedNotificationSchema", () => note("tools"));
  onNotification("notifications/resources/updated", "ResourceUpdatedNotificationSchema", ({ params }) => note(params.uri));
});

await client.connect(transport);
const text = (result) => result.content.map((block) => block.text ?? block.type).join(" ");
const plain = (options) => (major === "v1" ? [undefined, options] : [options]); // v1 takes a result schema before its options
const call = async (name, args = {}, options = {}, _meta) =>
  text(await client.callTool({ name, arguments: args, ...(_meta && { _meta }) }, ...plain(options)));

seen.book = await call("book");
seen.confirm = await call("confirm", { city: "Oslo" });
seen.visit = await call("visit");
await call("steps", { to: 2 }, { onprogress: ({ progress, total, message }) => seen.progress.push([progress, total, message]) });
if (!modern) await client.setLoggingLevel("error");
await call("say", {}, {}, modern ? { "io.modelcontextprotocol/logLevel": "error" } : undefined);

// v1 gives one page a call, v2 walks them all
seen.tools = [];
for (let cursor; ; ) {
  const page = await client.listTools(cursor ? { cursor } : {});
  seen.tools.push(...page.tools.map((tool) => tool.name));
  if (!(cursor = page.nextCursor)) break;
}
seen.show = await call("show");
seen.route = await call("route", { region: "Zürich", priority: 2 });
seen.read = (await client.readResource({ uri: "weather://oslo/today" })).contents[0].blob;
seen.pack = (await client.getPrompt({ name: "pack", arguments: { city: "Oslo" } })).messages.map((message) => message.content.text);
seen.cities = (
  await client.complete({
    ref: { type: "ref/resource", uri: "weather://{city}/{day}" },
    argument: { name: "city", value: "o" },
    context: { arguments: { day: "today" } },
  })
).completion.values;

const subscription = modern
  ? await client.listen({ toolsListChanged: true, resourceSubscriptions: ["config://x"] })
  : await client.subscribeResource({ uri: "config://x" });
await call("change");
await bothChanges;
seen.changes = [...changes].sort();
await (modern ? subscription.close() : client.unsubscribeResource({ uri: "config://x" }));

const abort = new AbortController();
const waiting = call("wait", {}, { signal: abort.signal }).catch((error) => error.message);
await call("begun");
abort.abort("enough");
seen.aborted = await waiting;
seen.cancelled = await call("cancelled");
if (url && !modern) seen.leave = await call("leave", {}, { onprogress: () => {} });

await client.close();
console.log(JSON.stringify(seen));
