// Runs graphs in ONNX Runtime's WebAssembly, as browsers do. The one argument is a file with a list
// of {build, graph, data, inputs, outputs}; an input is [type, shape, values]. Builds are "plain" and
// "webgpu"; transformers.js loads the latter for every device. Prints each job's outputs as one line
// of JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url);
// Its module for browsers looks for files by URL; the other one finds them beside itself.
const plain = require('onnxruntime-web');
const folder = dirname(require.resolve('onnxruntime-web'));
const webgpu = require(`${folder}/ort.webgpu.min.js`);
const compiled = `${folder}/ort-wasm-simd-threaded.asyncify`;
webgpu.env.wasm.wasmPaths = { mjs: pathToFileURL(`${compiled}.mjs`).href };
webgpu.env.wasm.wasmBinary = readFileSync(`${compiled}.wasm`);
const builds = { plain, webgpu };
for (const ort of Object.values(builds)) ort.env.wasm.numThreads = 1;

const tensor = (ort, [type, shape, values]) => {
  const typed = type === 'int64' ? BigInt64Array.from(values, BigInt) : values;
  return new ort.Tensor(type, typed, shape);
};

for (const job of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  const { build, graph, data, inputs, outputs } = job;
  const ort = builds[build];
  const session = await ort.InferenceSession.create(readFileSync(graph), {
    executionProviders: ['wasm'],
    externalData: data.map((path) => ({ path: basename(path), data: readFileSync(path) })),
  });
  const feeds = Object.fromEntries(Object.entries(inputs).map(([k, v]) => [k, tensor(ort, v)]));
  const found = await session.run(feeds, outputs);
  console.log(JSON.stringify(outputs.map((name) => Array.from(found[name].data))));
  await session.release();
}
