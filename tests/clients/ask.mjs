// Asks transformers.js what artifacts say to pictures. The one argument is a file with a list of
// {artifact, images, question, max_tokens}; each job's result is printed as one line of JSON.
import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  env,
  load_image,
} from '@huggingface/transformers';

env.allowRemoteModels = false;
env.useFSCache = false;

async function answer({ artifact, images, question, max_tokens }) {
  env.localModelPath = dirname(artifact);
  const processor = await AutoProcessor.from_pretrained(basename(artifact));
  const model = await AutoModelForImageTextToText.from_pretrained(basename(artifact));

  const content = [...images.map(() => ({ type: 'image' })), { type: 'text', text: question }];
  const prompt = processor.apply_chat_template([{ role: 'user', content }], {
    add_generation_prompt: true,
  });
  const pictures = await Promise.all(images.map((path) => load_image(path)));
  const inputs = await processor(prompt, pictures, { add_special_tokens: false });
  const output = await model.generate({ ...inputs, max_new_tokens: max_tokens, do_sample: false });

  const asked = inputs.input_ids.dims[1];
  const tokens = output.slice(null, [asked, null]);
  await model.dispose();
  return {
    prompt: Array.from(inputs.input_ids.data, Number),
    pixels: Array.from(inputs.pixel_values.data),
    tokens: Array.from(tokens.data, Number),
    text: processor.batch_decode(tokens, { skip_special_tokens: true })[0],
  };
}

for (const job of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  console.log(JSON.stringify(await answer(job)));
}
