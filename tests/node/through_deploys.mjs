// An official TypeScript client asks, cancels, resumes and subscribes until standard input ends: 1.x in legacy sessions, 2.x in the modern era.
// node through_deploys.mjs URL TOKEN typescript1|typescript2
// Prints `begun` after the first round of each session, and at the end what went wrong and how many rounds there were, as JSON.
import { setTimeout as lasts } from "node:timers/promises";

const [url, token, kind] = process.argv.slice(2);
const modern = kind === "typescript2";
const v1 = "@modelcontextprotocol/sdk";
const v2 = "@modelcontextprotocol/client";
const { Client } = await import(modern ? v2 : `${v1}/client/index.js`);
const { StreamableHTTPClientTransport } = await import(modern ? v2 : `${v1}/client/streamableHttp.js`);
const asks = modern ? "elicitation/create" : (await import(`${v1}/types.js`)).ElicitRequestSchema;
const options = { capabilities: { elicitation: { form: {} } }, ...(modern && { versionNegotiation: { mode: { pin: "2026-07-28" } } }) };
const SESSIONS = 2;
const URI = "test://changing";
const faults = [];
let rounds = 0;
let begun = 0;
let stopping = false;
process.stdin.resume().on("end", () => (stopping = true));

async function connect() {
  const client = new Client({ name: "through-deploys", version: "1" }, options);
  client.setRequestHandler(asks, async () => {
    await lasts(Math.random() * 600); // a deploy may come in between
    return { action: "accept", content: { sure: true } };
  });
  client.onerror = (error) => {
    // the answer to a cancelled call comes after the client has forgotten it
    if (!error.message.includes("response for an unknown message ID")) faults.push(`told: ${error.message}`);
  };
  const headers = { Authorization: `Bearer ${token}` };
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
  return client;
}

async function call(client, name, args = {}, options = {}) {
  const params = { name, arguments: args };
  const all = { timeout: 40_000, onprogress: () => {}, ...options };
  return (await client.callTool(params, ...(modern ? [all] : [undefined, all]))).content[0].text;
}

async function expect(what, said, wanted) {
  const got = await said.catch((error) => error.message);
  if (!got.includes(wanted)) throw new Error(`${what}: ${got}`);
}

async function close(client) {
  client.onerror = undefined; // it tells of each stream that it aborts itself
  await client.close();
}

async function cancelled(client) {
  const abort = new AbortController();
  const waiting = call(client, "wait", {}, { signal: abort.signal });
  await Promise.race([waiting, lasts(50 + Math.random() * 450)]);
  abort.abort("enough");
  return waiting;
}

// change the resource until the client is told: its stream may be on its way to another instance
async function told(client, updates) {
  updates.length = 0;
  for (let tries = 0; tries < 30; tries++) {
    await call(client, "touch", { uri: URI });
    for (let waits = 0; waits < 10; waits++) {
      if (updates.length) return updates.pop();
      await lasts(100);
    }
  }
  return "nothing came";
}

async function session() {
  const client = await connect();
  const updates = [];
  const subscribes = !modern;
  if (subscribes) {
    const { ResourceUpdatedNotificationSchema } = await import(`${v1}/types.js`);
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void updates.push(params.uri));
    await client.subscribeResource({ uri: URI });
  }
  for (let round = 0; !stopping; round++) {
    await expect("asked", call(client, "confirm", { city: "Oslo" }), "Oslo: True");
    await expect("cancelled", cancelled(client), "enough");
    if (!modern) await expect("resumed", call(client, "leave", { seconds: Math.random() }), "left");
    await expect("called", call(client, "work", { seconds: 2 }), "");
    if (subscribes) await expect("told", told(client, updates), URI);
    rounds += 1;
    if (round === 0 && ++begun === SESSIONS) process.stdout.write("begun\n");
  }
  await close(client);
}

async function busy() {
  const client = await connect(); // keeps the old instances draining
  while (!stopping) await expect("busy", call(client, "work", { seconds: 25 }), "");
  await close(client);
}

const ended = await Promise.allSettled([busy(), ...Array.from({ length: SESSIONS }, session)]);
faults.push(...ended.filter((each) => each.reason).map((each) => each.reason.message));
console.log(JSON.stringify({ rounds, faults }));
process.exit(0);
