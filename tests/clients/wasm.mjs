// Runs graphs in ONNX Runtime's WebAssembly, as browsers do. The one argument is a file with a list
// of {graph, data, inputs, outputs}; an input is [type, shape, values]. Prints each job's outputs as
// one line of JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';

// Its module for browsers looks for files by URL; the other one finds them beside itself.
const ort = createRequire(import.meta.url)('onnxruntime-web');
ort.env.wasm.numThreads = 1;

const tensor = ([type, shape, values]) => {
  const typed = type === 'int64' ? BigInt64Array.from(values, BigInt) : values;
  return new ort.Tensor(type, typed, shape);
};

for (const { graph, data, inputs, outputs } of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  const session = await ort.InferenceSession.create(readFileSync(graph), {
    executionProviders: ['wasm'],
    externalData: data.map((path) => ({ path: basename(path), data: readFileSync(path) })),
  });
  const feeds = Object.fromEntries(Object.entries(inputs).map(([k, v]) => [k, tensor(v)]));
  const found = await session.run(feeds, outputs);
  console.log(JSON.stringify(outputs.map((name) => Array.from(found[name].data))));
  await session.release();
}
