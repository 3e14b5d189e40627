// What the runtime `browser` calls from outside, by Chromium's debugging protocol.
import { heldBytes, open, surroundings } from '/vlm.mjs';

let opened, answer;

globalThis.pocketvlm = {
  surroundings,
  heldBytes,
  open: async (name, options) => {
    opened = await open('/artifacts/', name, options);
    return opened.load_s;
  },
  ask: (request) => {
    answer = opened.answer(request);
  },
  next: async () => (await answer.next()).value ?? null,
  stop: () => answer?.return(),
};
