// What tests/javascript_client.py runs: each thing that the client does here, told in a line.
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: process.argv[3] }];
const whole = await client.chat.completions.create({ model: "default", messages });
console.log("chat", whole.choices[0].message.content, whole.usage.total_tokens, whole.conclave.results[0].tally[0].votes);
const stream = await client.chat.completions.create({ model: "conclave", messages, stream: true, stream_options: { include_usage: true } });
let said = "", usage = null;
for await (const chunk of stream) { said += chunk.choices[0]?.delta?.content ?? ""; usage = chunk.usage ?? usage; }
console.log("stream", said, usage.total_tokens);
const names = []; for await (const model of client.models.list()) names.push(model.id);
console.log("models", names[0], names.length > 5);
const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };
try {
  await client.chat.completions.create({ model: "instruct", messages, response_format: { type: "json_schema", json_schema: { name: "n", schema: { ...schema, properties: { n: { type: "int" } } } } } });
} catch (error) { console.log("refused", error.status, error.param, error.code); }
const file = await client.files.create({ file: new File([JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body: { model: "default", messages } })], "q.jsonl"), purpose: "batch" });
const batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
let state = batch; while (state.status === "in_progress") { await new Promise((r) => setTimeout(r, 100)); state = await client.batches.retrieve(batch.id); }
const [line] = (await (await client.files.content(state.output_file_id)).text()).split("\n");
console.log("batch", state.status, state.request_counts.completed, JSON.parse(line).response.body.choices[0].message.content);
