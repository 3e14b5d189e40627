// The page of `bench phone`: measures what the server plans, shows how far it is, and reports.
import { open, surroundings } from '/vlm.mjs';

const byId = (id) => document.getElementById(id);
const yes = (value) => (value ? 'yes' : 'no');
const ms = (seconds) => `${Math.round(seconds * 1000).toLocaleString()} ms`;
const later = (delay) => new Promise((done) => setTimeout(done, delay));

// Does work that asks the server, again and again while the connection is lost.
async function patient(work) {
  const said = byId('said').textContent;
  for (let delay = 500; ; delay = Math.min(2 * delay, 10_000)) {
    try {
      const result = await work();
      byId('said').textContent = said;
      return result;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch throws no other for a lost connection
      byId('said').textContent = 'The connection is lost. This page tries again by itself.';
      await later(delay);
    }
  }
}

function show(found, threads) {
  const rows = {
    'secure context': yes(found.secure_context),
    isolated: `${yes(found.cross_origin_isolated)} (${threads} thread${threads > 1 ? 's' : ''})`,
    GPU: found.adapter ?? 'none offered',
    cores: found.cores ?? 'not said',
    memory: found.memory_gib === null ? 'not said' : `${found.memory_gib} GiB or more`,
  };
  for (const [name, text] of Object.entries(rows)) {
    const [term, value] = [document.createElement('dt'), document.createElement('dd')];
    [term.textContent, value.textContent] = [name, text];
    byId('browser').append(term, value);
  }
}

function card({ title, done }) {
  const section = document.createElement('section');
  const [head, bar, text] = ['h2', 'progress', 'p'].map((name) => document.createElement(name));
  head.textContent = title;
  bar.value = done ? 1 : 0;
  text.textContent = done ? 'measured before' : 'waiting';
  section.append(head, bar, text);
  byId('artifacts').append(section);
  return {
    say: (words, share) => {
      text.textContent = words;
      if (share !== undefined) bar.value = share;
    },
    mark: (kind) => (text.className = kind),
  };
}

async function measured(artifact, picture, { device, threads }, shown) {
  const { name, files, question, answer, repeats } = artifact;
  const progress = (done, all) => shown.say(`fetching ${Math.round(done / 1e4) / 100} MB`, (0.5 * done) / all);
  const opened = await open('/artifacts/', name, {
    files,
    device,
    threads,
    progress,
    patient,
  });
  shown.say('loaded', 0.6);
  const request = { question, images: [picture], ids: null, max_tokens: 0, answer, arrays: false };
  const answers = [];
  for (let turn = 0; turn <= repeats; turn += 1) {
    const steps = [];
    for await (const { kind, seconds, positions = 0, tiles = 0, token = null } of opened.answer(request)) {
      steps.push({ kind, seconds, positions, tiles, token });
      const share = (turn + steps.length / (answer.length + 3)) / (repeats + 1);
      shown.say(`request ${turn + 1} of ${repeats + 1}`, 0.6 + 0.4 * share);
      await later(0); // so that the browser draws
    }
    answers.push(steps);
  }
  await opened.dispose();
  return { load_s: opened.load_s, answers };
}

function summary({ load_s, answers }) {
  const steps = answers.at(-1);
  const tokens = steps.filter(({ kind }) => kind === 'token').slice(1);
  const sum = (part) => part.reduce((all, { seconds }) => all + seconds, 0);
  const first = sum(steps) - sum(tokens);
  const rate = (tokens.length / sum(tokens)).toPrecision(3);
  return `load ${ms(load_s)} · first token ${ms(first)} · ${rate} tokens/s`;
}

async function run(plan, picture, browser, cards) {
  for (const [n, artifact] of plan.artifacts.entries()) {
    if (artifact.done) continue;
    let found;
    try {
      found = await measured(artifact, picture, browser, cards[n]);
      cards[n].say(summary(found), 1);
      cards[n].mark('good');
    } catch (error) {
      found = { error: String(error?.message ?? error) };
      cards[n].say(`failed: ${found.error}`, 1);
      cards[n].mark('bad');
    }
    const body = JSON.stringify({ browser, ...found });
    const answer = await patient(() => fetch(`/reports/${artifact.name}`, { method: 'POST', body }));
    if (!answer.ok) cards[n].say(`the report was refused: ${await answer.text()}`);
  }
  byId('said').textContent = 'Done. The figures have been sent; this page can be closed.';
}

const plan = await patient(async () => (await fetch('/plan')).json());
const picture = await patient(async () => URL.createObjectURL(await (await fetch('/picture.png')).blob()));
const found = await surroundings();
const threads = found.cross_origin_isolated ? Math.min(plan.threads, found.cores ?? 1) : 1;
const browser = { ...found, device: 'wasm', threads, packages: plan.packages, page_bytes: null };
show(found, threads);
const cards = plan.artifacts.map(card);
const go = async () => {
  byId('start').disabled = true;
  byId('start').textContent = 'Measuring …';
  sessionStorage.setItem('started', 'yes');
  await run(plan, picture, browser, cards);
  byId('start').hidden = true;
};
byId('start').disabled = false;
byId('start').addEventListener('click', go);
// After a reload it goes on by itself.
if (sessionStorage.getItem('started')) go();
