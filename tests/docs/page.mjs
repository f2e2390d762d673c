// The page in a browser without a window: `node tests/docs/page.mjs PAGE SERVER...`, as `make test-browser` runs it.
// PAGE is the folder that `make browser` fills, with the float32 model, and with lines of {source, translations} as
// `translate --output_format jsonl` writes them for each model. It gets the screenshots. SERVER is the command by which
// `make browser` serves the page, with port 0 for any that is free.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createRequire } from 'node:module';
import { checkBeams, readExpected } from './expected.mjs';

const [page_folder, program, ...options] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(page_folder, 'package.json'))('playwright-core');

const server = spawn(program, options, { env: { ...process.env, PYTHONUNBUFFERED: '1' }, stdio: ['ignore', 'pipe', 'ignore'] });
process.on('exit', () => server.kill());
const address = await new Promise((resolve, reject) => {
  let said = '';
  server.stdout.on('data', (part) => {
    const found = /http:[^)\s]*(?=\))/.exec(said += part);
    if (found) resolve(found[0]);
  });
  server.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
});
assert.match(address, /^http:\/\/127\.0\.0\.1:\d+\/$/);  // of this machine only
const TYPES = { '': 'text/html', 'app.mjs': 'text/javascript', 'vendor/transformers.min.js': 'text/javascript',
  'vendor/ort-wasm-simd-threaded.wasm': 'application/wasm', 'model/vanilla_transformer.json': 'application/json' };
for (const [file, type] of Object.entries(TYPES)) {
  const answer = await fetch(address + file);
  assert.equal(answer.status, 200, file);
  assert.equal(answer.headers.get('content-type').split(';')[0], type, file);
}
console.log(`served at ${address}`);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const requests = [], errors = [];

const missing = (route) => route.fulfill({ status: 404 });

async function open(size, pattern, answer) {
  const page = await browser.newPage({ viewport: size });
  page.setDefaultTimeout(300_000);
  if (pattern) await page.route(pattern, answer);
  page.on('request', (request) => requests.push(request.url()));
  if (answer !== missing) {
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
  }
  await page.goto(address);
  await page.waitForSelector('html[data-ready]');
  return page;
}

/** Compare the n-best lists of a page with those of Python. */
async function compareBeams(page, folder) {
  const expected = readExpected(page_folder, folder);
  const found = await page.evaluate(async (sources) => {
    const { translate, textOf } = await import('./app.mjs');
    const results = [];
    for (const source of sources) results.push((await translate(source)).finished.map(({ tokens }) => textOf(tokens)));
    return results;
  }, expected.map(({ source }) => source));
  checkBeams(expected, found, `${folder}, in Chromium`);
}

const page = await open({ width: 1280, height: 900 });
assert.equal(await page.getAttribute('html', 'data-ready'), 'true', await page.textContent('#state'));
console.log('loaded:', await page.textContent('#state'));

async function translated(text, keys) {
  await page.getByLabel('Text in English').fill(text);
  if (keys) await page.keyboard.press('Control+Enter');
  else await page.getByRole('button', { name: 'Translate' }).click();
  await page.waitForFunction(() => !document.getElementById('go').disabled);
  return page.textContent('#state');
}

assert.match(await translated('How are you?'), /^¿Cómo estás\? \(\d+ ms\)$/);
assert.equal(await page.locator('#list li').count(), 4);
assert.equal(await page.getAttribute('#list', 'lang'), 'es');
assert.match(await page.locator('#list li').first().textContent(), /¿Cómo estás\? -\d\.\d{4}/);
assert.equal(await page.locator('#map tr').first().locator('th').count(), 5);  // four tokens and </s>
for (const sum of await page.locator('#map tr:not(:first-of-type)').evaluateAll((rows) =>
  rows.map((row) => [...row.querySelectorAll('td')].reduce((all, cell) => all + Number(cell.textContent), 0))))
  assert.ok(Math.abs(sum - 1) < 0.05, `a row of attention sums to ${sum}`);
await page.screenshot({ path: path.join(page_folder, 'page_1280.png'), fullPage: true });
await page.locator('#list button').nth(1).press('Enter');  // by the keyboard
assert.equal(await page.locator('#list button').nth(1).getAttribute('aria-pressed'), 'true');
assert.match(await translated('The house is red.', true), /^La casa/);
assert.equal(await translated('   '), 'Type a sentence.');
assert.match(await translated('word '.repeat(2000)), /^The text has [\d,]+ tokens, and this page takes at most 256/);
assert.doesNotMatch(await translated('I am </s> here.'), /failed/);
console.log('inputs: ok');

await compareBeams(page, 'model');
const plain = await open({ width: 1280, height: 900 }, '**/model/**', (route) =>
  route.fulfill({ path: path.join(page_folder, 'float32', route.request().url().split('/model/')[1]) }));
await compareBeams(plain, 'float32');

const phone = await open({ width: 390, height: 844 });
await phone.getByRole('button', { name: 'Translate' }).click();
await phone.waitForSelector('#list li');
assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= 390), 'the page is wider than a phone');
await phone.screenshot({ path: path.join(page_folder, 'page_390.png'), fullPage: true });

const broken = await open({ width: 1280, height: 900 }, '**/decoder_model_merged*.onnx', missing);
assert.match(await broken.textContent('#state'), /decoder_model_merged.*\.onnx is missing\. Run `make browser`/);

const empty = await open({ width: 1280, height: 900 }, '**/transformers.min.js', missing);
assert.match(await empty.textContent('#state'), /vendor\/transformers\.min\.js is missing\. Run `make browser`/);

const foreign = requests.filter((url) => !url.startsWith(address) && !url.startsWith('data:') && !url.startsWith('blob:'));
assert.deepEqual(foreign, []);
assert.deepEqual(errors, []);
console.log(`${requests.length} requests, all local; no error on the console`);
await browser.close();
server.kill();
