// The official TypeScript client 1.x asks, cancels and resumes in legacy sessions until standard input ends:
// node through_deploys.mjs URL TOKEN
// Prints `begun` after the first round of each session, and at the end what went wrong and how many rounds there were, as JSON.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { setTimeout as lasts } from "node:timers/promises";

const [url, token] = process.argv.slice(2);
const SESSIONS = 3;
const faults = [];
let rounds = 0;
let begun = 0;
let stopping = false;
process.stdin.resume().on("end", () => (stopping = true));

async function connect() {
  const client = new Client({ name: "through-deploys", version: "1" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, async () => {
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
  return (await client.callTool(params, undefined, { timeout: 40_000, onprogress: () => {}, ...options })).content[0].text;
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

async function session() {
  const client = await connect();
  for (let round = 0; !stopping; round++) {
    await expect("asked", call(client, "confirm", { city: "Oslo" }), "Oslo: True");
    await expect("cancelled", cancelled(client), "enough");
    await expect("resumed", call(client, "leave", { seconds: Math.random() }), "left");
    await expect("called", call(client, "work", { seconds: 0 }), "");
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
