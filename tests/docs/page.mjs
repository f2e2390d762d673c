// The page in a browser without a window: `node tests/docs/page.mjs PAGE EXPECTED PICTURES`, as `make test-browser` runs it.
// PAGE is the folder that `make browser` fills, EXPECTED has lines of {source, translations} as `translate
// --output_format jsonl` writes them for the same model, PICTURES is a folder for screenshots.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { createRequire } from 'node:module';

const [page_folder, expected_file, pictures] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(page_folder, 'package.json'))('playwright-core');
const TYPES = { '.html': 'text/html', '.mjs': 'text/javascript', '.js': 'text/javascript', '.css': 'text/css',
  '.json': 'application/json', '.wasm': 'application/wasm' };

const server = http.createServer((request, response) => {
  const file = path.join(page_folder, new URL(request.url, 'http://localhost').pathname.replace(/\/$/, '/index.html'));
  if (!fs.existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream', 'content-length': fs.statSync(file).size });
  request.method === 'HEAD' ? response.end() : fs.createReadStream(file).pipe(response);
}).listen(0, '127.0.0.1');
await new Promise((resume) => server.once('listening', resume));
const address = `http://127.0.0.1:${server.address().port}/`;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const requests = [], errors = [];

async function open(size, block) {
  const page = await browser.newPage({ viewport: size });
  page.setDefaultTimeout(300_000);
  if (block) await page.route(block, (route) => route.fulfill({ status: 404 }));
  page.on('request', (request) => requests.push(request.url()));
  if (!block) {
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
  }
  await page.goto(address);
  await page.waitForSelector('html[data-ready]');
  return page;
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
await page.screenshot({ path: path.join(pictures, 'page_1280.png'), fullPage: true });
await page.locator('#list button').nth(1).press('Enter');  // by the keyboard
assert.equal(await page.locator('#list button').nth(1).getAttribute('aria-pressed'), 'true');
assert.match(await translated('The house is red.', true), /^La casa/);
assert.equal(await translated('   '), 'Type a sentence.');
assert.match(await translated('word '.repeat(2000)), /^The text has [\d,]+ tokens, and this page takes at most 256/);
assert.doesNotMatch(await translated('I am </s> here.'), /failed/);
console.log('inputs: ok');

const expected = fs.readFileSync(expected_file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const found = await page.evaluate(async (sources) => {
  const { translate, textOf } = await import('./app.mjs');
  const results = [];
  for (const source of sources) results.push((await translate(source)).finished.map(({ tokens }) => textOf(tokens)));
  return results;
}, expected.map(({ source }) => source));
const same = expected.filter(({ translations }, place) =>
  JSON.stringify(translations.map((each) => each.translation_text)) === JSON.stringify(found[place])).length;
const best = expected.filter(({ translations }, place) => translations[0].translation_text === found[place][0]).length;
console.log(`lists of all beams equal: ${same} of ${expected.length}; best translations equal: ${best}`);

const phone = await open({ width: 390, height: 844 });
await phone.getByRole('button', { name: 'Translate' }).click();
await phone.waitForSelector('#list li');
assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= 390), 'the page is wider than a phone');
await phone.screenshot({ path: path.join(pictures, 'page_390.png'), fullPage: true });

const broken = await open({ width: 1280, height: 900 }, '**/decoder_model_merged*.onnx');
assert.match(await broken.textContent('#state'), /decoder_model_merged.*\.onnx is missing\. Run `make browser`/);

const empty = await open({ width: 1280, height: 900 }, '**/transformers.min.js');
assert.match(await empty.textContent('#state'), /vendor\/transformers\.min\.js is missing\. Run `make browser`/);

const foreign = requests.filter((url) => !url.startsWith(address) && !url.startsWith('data:') && !url.startsWith('blob:'));
assert.deepEqual(foreign, []);
assert.deepEqual(errors, []);
console.log(`${requests.length} requests, all local; no error on the console`);
await browser.close();
server.close();
