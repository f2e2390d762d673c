"use strict";
const data = JSON.parse(document.getElementById("numbers").textContent);
const sizes = data.sizes;
const choice = { stage: 0, head: 0, source: 0, target: 0, beam: Math.max(0, data.beams.length - 1) };

// ----- numbers -----

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * 2 ** -14 * (fraction / 1024);
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

/** A packed tensor as a matrix, or one of its matrices: rows of numbers. */
function matrix(packed, index) {
  if (!packed.values) {
    const bytes = atob(packed.numbers);
    packed.values = new Float32Array(bytes.length / 2);
    for (let i = 0; i < packed.values.length; i++)
      packed.values[i] = half(bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8));
  }
  const [rows, columns] = packed.shape.slice(-2), start = (index || 0) * rows * columns;
  return Array.from({ length: rows }, (_, r) => packed.values.subarray(start + r * columns, start + (r + 1) * columns));
}

/** Add input and output of each sublayer of a stack, from its bottom. */
function addResiduals(stack) {
  let state = matrix(stack.input);
  for (const layer of stack.layers)
    for (const part of [layer.self, layer.cross, layer.forward].filter(Boolean)) {
      const output = matrix(part.output), before = state;
      part.sum = output.map((row, r) => row.map((value, c) => value + before[r][c]));
      state = sizes.norm_first ? part.sum : matrix(part.norm);
    }
}
addResiduals(data.encoder);
addResiduals(data.decoder);

const show = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1)
  : value.toFixed(2)).replace("-", "−");
const minus = (value) => value.toFixed(3).replace("-", "−");
const count = (value) => value.toLocaleString("en");
const shape = (...parts) => parts.join(" × ");

// ----- elements -----

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((each) => each !== undefined && each !== null));
  return node;
}

function colour(value, most) {
  const share = most ? Math.min(1, Math.abs(value) / most) : 0;
  return `rgba(var(--${value < 0 ? "minus" : "plus"}), ${(share * 0.9).toFixed(3)})`;
}

/** States (T, D): a row of coloured cells for each token, and the numbers of the chosen one. */
function heat(values, tokens, side, caption) {
  const most = Math.max(1e-9, ...values.map((row) => row.reduce((best, each) => Math.max(best, Math.abs(each)), 0)));
  const canvas = element("canvas", { width: values[0].length, height: values.length, role: "img",
    style: `height:${20 * values.length}px`, "aria-label": `${caption}: ${shape(values.length, values[0].length)} numbers` });
  const style = getComputedStyle(document.documentElement);
  const colours = ["--plus", "--minus"].map((name) => style.getPropertyValue(name).split(",").map(Number));
  const context = canvas.getContext("2d"), image = context.createImageData(values[0].length, values.length);
  values.forEach((row, r) => row.forEach((value, c) => {
    const [red, green, blue] = colours[value < 0 ? 1 : 0];
    image.data.set([red, green, blue, 255 * Math.min(1, Math.abs(value) / most)], 4 * (r * row.length + c));
  }));
  context.putImageData(image, 0, 0);
  const chosen = Math.min(choice[side], values.length - 1);
  const head = (row) => `${tokens[row]}: ${Array.from(values[row].slice(0, 8), show).join("  ")}${values[row].length > 8 ? " …" : ""}`;
  const numbers = element("div", { class: "numbers" }, head(chosen));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const c = Math.min(values[0].length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * values[0].length)));
    const r = Math.min(values.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * values.length)));
    numbers.textContent = `${tokens[r]}, dimension ${c}: ${values[r][c].toFixed(4).replace("-", "−")}`;
  });
  canvas.addEventListener("pointerleave", () => { numbers.textContent = head(Math.min(choice[side], values.length - 1)); });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    choose(side, Math.min(values.length - 1, Math.floor((event.clientY - box.top) / box.height * values.length)));
  });
  return element("figure", {}, caption ? element("figcaption", {}, caption) : null, element("div", { class: "heat" },
    element("div", { class: "tokens" }, ...tokens.map((token, r) => element("button", { type: "button", title: token,
      "aria-pressed": String(r === chosen), onclick: () => choose(side, r) }, token))), canvas, numbers));
}

/** Tokens by tokens (T, S): a table of coloured numbers. */
function table(values, rows, columns, side, { allowed, sums, caption, masked } = {}) {
  const most = sums ? 1 : Math.max(...values.flatMap((row) => Array.from(row, Math.abs)));
  const cells = (row, r) => Array.from(row, (value, c) => {
    if (allowed && !allowed[r][c]) return element("td", { class: "masked" }, masked || "−∞");
    const strong = Math.abs(value) / most > 0.62;
    return element("td", { style: `background:${colour(value, most)}${strong ? ";color:var(--on-accent)" : ""}` }, show(value));
  });
  return element("figure", {}, element("figcaption", {}, caption || "row: the token that attends; column: what it attends to"),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || "attention" }, element("table", { class: "map" },
      element("thead", {}, element("tr", {}, element("th", {}), ...columns.map((each) => element("th", { scope: "col" }, each)),
        sums ? element("th", { scope: "col" }, "sum") : null)),
      element("tbody", {}, ...values.map((row, r) => element("tr", { class: r === choice[side] ? "chosen" : undefined },
        element("th", { scope: "row", onclick: () => choose(side, r) }, rows[r]), ...cells(row, r),
        sums ? element("td", { class: "sum" }, row.reduce((a, b) => a + b, 0).toFixed(2)) : null))))));
}

// ----- formulas (MathML) -----

const i = (x) => `<mi>${x}</mi>`, o = (x) => `<mo>${x}</mo>`, n = (x) => `<mn>${x}</mn>`, t = (x) => `<mtext>${x}</mtext>`;
const r = (...x) => `<mrow>${x.join("")}</mrow>`, sub = (a, b) => `<msub>${a}${b}</msub>`, sup = (a, b) => `<msup>${a}${b}</msup>`;
const frac = (a, b) => `<mfrac>${a}${b}</mfrac>`, root = (a) => `<msqrt>${a}</msqrt>`;
const dk = sub(i("d"), i("k")), dm = sub(i("d"), t("model")), qk = r(i("Q"), sup(i("K"), i("T")));
const formulas = {
  embed: r(i("x"), o("="), i("E"), o("["), t("token"), o("]"), o("·"), root(dm)),
  position: r(sub(i("PE"), r(t("pos"), o(","), n(2), i("i"))), o("="), i("sin"), o("("), frac(t("pos"), sup(n("10000"), r(n(2), i("i"), o("/"), dm))), o(")"),
    o(","), `<mspace width="1em"></mspace>`, sub(i("PE"), r(t("pos"), o(","), n(2), i("i"), o("+"), n(1))), o("="), i("cos"), o("("), t("the same"), o(")")),
  sum: r(i("x"), o("+"), i("PE")),
  project: r(i("Q"), o("="), i("x"), sup(i("W"), i("Q")), o(","), `<mspace width=".6em"></mspace>`, i("K"), o("="), i("y"), sup(i("W"), i("K")), o(","), `<mspace width=".6em"></mspace>`, i("V"), o("="), i("y"), sup(i("W"), i("V"))),
  products: qk,
  scaled: frac(qk, root(dk)),
  softmax: r(i("A"), o("="), i("softmax"), o("("), frac(qk, root(dk)), o(")")),
  heads: r(sub(i("head"), i("h")), o("="), i("A"), i("V")),
  output: r(t("MultiHead"), o("="), t("Concat"), o("("), sub(i("head"), n(1)), o(","), o("…"), o(","), sub(i("head"), i("H")), o(")"), sup(i("W"), i("O"))),
  residual: sizes.norm_first ? r(i("x"), o("+"), t("Sublayer"), o("("), t("LayerNorm"), o("("), i("x"), o(")"), o(")"))
    : r(t("LayerNorm"), o("("), i("x"), o("+"), t("Sublayer"), o("("), i("x"), o(")"), o(")")),
  inner: sizes.hidden_act === "relu" ? r(i("max"), o("("), n(0), o(","), i("x"), sub(i("W"), n(1)), o("+"), sub(i("b"), n(1)), o(")"))
    : r(i(sizes.hidden_act), o("("), i("x"), sub(i("W"), n(1)), o("+"), sub(i("b"), n(1)), o(")")),
  forward: r(t("FFN"), o("("), i("x"), o(")"), o("="), t("inner"), sub(i("W"), n(2)), o("+"), sub(i("b"), n(2))),
  linear: r(i("P"), o("("), sub(i("y"), i("t")), o("|"), sub(i("y"), r(o("<"), i("t"))), o(","), i("X"), o(")"), o("="), i("softmax"), o("("), i("x"), sup(i("E"), i("T")), o(")")),
  score: r(i("s"), o("("), i("Y"), o(")"), o("="), frac(r(i("log"), i("P"), o("("), i("Y"), o("|"), i("X"), o(")")), sup(r(o("("), frac(r(n(5), o("+"), o("|"), i("Y"), o("|")), n(6)), o(")")), n(sizes.length_penalty)))),
};

// ----- steps -----

let number = 0;
function step(title, paper, formula, text, size, ...figures) {
  number += 1;
  const math = element("div", { class: "formula" });
  if (formula) math.innerHTML = `<math displaystyle="true">${formulas[formula]}</math>`;
  return element("section", { class: "step" }, element("div", { class: "head" }, element("h4", {}, element("span", { class: "number" }, `${number}  `), title),
    element("span", { class: "paper" }, paper), size ? element("span", { class: "shape" }, size) : null), formula ? math : null, element("p", {}, text), ...figures);
}

function tokenChips(side) {
  return element("div", { class: "chips" }, ...side.tokens.map((token, at) => element("div", { class: "chip" }, element("b", {}, token), element("small", {}, `id ${side.ids[at]}`))));
}

function bottom(stack, tokens, side) {
  const length = tokens.length, size = shape(length, sizes.hidden_size);
  return [
    step("Embeddings", "§3.4", "embed", "Each token is a row of one matrix, which encoder, decoder and the last linear layer share.", `T × d_model = ${size}`, heat(matrix(stack.embeddings), tokens, side, "")),
    step("Positional encoding", "§3.5", sizes.position_embedding_type === "sinusoidal" ? "position" : null,
      sizes.position_embedding_type === "sinusoidal" ? "Attention does not know the order of tokens. A sine and a cosine for each pair of dimensions tell where a token is." : "This model has learned a vector for each position (row E of Table 3).", `T × d_model = ${size}`, heat(matrix(stack.positions), tokens, side, "")),
    step("Input of the first layer", "§3.5", "sum", "Embedding and position are added.", `T × d_model = ${size}`, heat(matrix(stack.input), tokens, side, "")),
  ];
}

function attentionSteps(part, kind) {
  const a = part.attention, h = choice.head, cross = kind === "cross", encoder = kind === "encoder";
  const rows = encoder ? data.source.tokens : data.read, columns = cross || encoder ? data.source.tokens : data.read;
  const side = encoder ? "source" : "target", other = cross || encoder ? "source" : "target";
  const T = rows.length, S = columns.length, masked = kind === "decoder" ? { allowed: a.allowed } : {};
  const origin = cross ? "Queries come from the decoder, keys and values from the encoder's output: y is the encoder's, x the decoder's." : "All three come from the same states: y = x.";
  return [
    step("Queries, keys, values", "§3.2.2", "project", `${origin} Each head has its own ${sizes.key_size} dimensions: this is head ${h + 1} of ${sizes.num_attention_heads}.`, `T × d_k = ${shape(T, sizes.key_size)}`,
      element("div", { class: "trio" }, heat(matrix(a.queries, h), rows, side, "queries Q"), heat(matrix(a.keys, h), columns, other, "keys K"), heat(matrix(a.values, h), columns, other, "values V"))),
    step("Scores", "§3.2.1", "products", "How well each query fits each key: the product of the two vectors.", `T × S = ${shape(T, S)}`, table(matrix(a.products, h), rows, columns, side)),
    step("Scaling", "§3.2.1", "scaled", `Divided by √${sizes.key_size} = ${Math.sqrt(sizes.key_size).toFixed(2)}, so that the softmax stays soft.${kind === "decoder" ? " The mask puts −∞ where a position would see what comes after it (§3.2.3)." : ""}`, `T × S = ${shape(T, S)}`, table(matrix(a.scores, h), rows, columns, side, masked)),
    step("Softmax", "§3.2.1", "softmax", "Each row becomes weights that sum to 1: how much the token takes from each other one.", `T × S = ${shape(T, S)}`, table(matrix(a.weights, h), rows, columns, side, { ...masked, sums: true, masked: "0" })),
    step("Output of the head", "§3.2.1", "heads", "The values, each as much as its weight says, added up.", `T × d_v = ${shape(T, sizes.value_size)}`, heat(matrix(a.heads, h), rows, side, "")),
    step("All heads, projected", "§3.2.2", "output", `The ${sizes.num_attention_heads} heads side by side, mixed by one matrix.`, `T × d_model = ${shape(T, sizes.hidden_size)}`, heat(matrix(part.output), rows, side, "")),
    residualStep(part, rows, side),
  ];
}

function residualStep(part, rows, side) {
  return step("Residual and norm", "§5.4", "residual", "The sublayer's output is added to its input, and the sum normalized: mean 0, variance 1, then a learned gain and bias.", `T × d_model = ${shape(rows.length, sizes.hidden_size)}`,
    heat(part.sum, rows, side, "x + Sublayer"), heat(matrix(part.norm), rows, side, "LayerNorm"));
}

function forwardSteps(part, rows, side) {
  return [
    step("Feed-forward: inside", "§3.3", "inner", `Each position by itself, in ${count(sizes.intermediate_size)} dimensions${sizes.hidden_act === "relu" ? "; ReLU leaves 0 of what is negative" : ""}.`, `T × d_ff = ${shape(rows.length, sizes.intermediate_size)}`, heat(matrix(part.inner), rows, side, "")),
    step("Feed-forward: output", "§3.3", "forward", "Back to the width of the model.", `T × d_model = ${shape(rows.length, sizes.hidden_size)}`, heat(matrix(part.output), rows, side, "")),
    residualStep(part, rows, side),
  ];
}

const part = (text) => element("h3", { class: "part", id: text.split(" ")[0].toLowerCase() }, text);
const jumps = (...names) => element("p", { class: "jumps" }, ...names.map((name) => element("button", { type: "button",
  onclick: () => document.getElementById(name.split(" ")[0].toLowerCase()).scrollIntoView({ block: "start" }) }, name)));

function sourceStage() {
  return [step("Tokens", "§5.1", null, "Byte-pair encoding parts the text into pieces that it has learned; ␣ is a space. </s> ends the sentence.", `S = ${data.source.tokens.length}`, tokenChips(data.source)), ...bottom(data.encoder, data.source.tokens, "source")];
}

function encoderStage(layer) {
  const parts = data.encoder.layers[layer];
  return [jumps("Self-attention", "Feed-forward network"), part("Self-attention"), ...attentionSteps(parts.self, "encoder"), part("Feed-forward network"), ...forwardSteps(parts.forward, data.source.tokens, "source")];
}

function targetStage() {
  return [step("Shifted right", "§3.1", null, "At each position the decoder reads the token before and writes the next one. It begins with <s>.", `T = ${data.read.length}`,
    element("div", { class: "chips" }, ...data.read.map((token, at) => element("div", { class: "chip" }, element("small", {}, "reads"), element("b", {}, token), element("small", {}, `writes ${data.target.tokens[at]}`))))),
  ...bottom(data.decoder, data.read, "target")];
}

function decoderStage(layer) {
  const parts = data.decoder.layers[layer];
  return [jumps("Masked self-attention", "Cross-attention to the source", "Feed-forward network"), part("Masked self-attention"), ...attentionSteps(parts.self, "decoder"), part("Cross-attention to the source"), ...attentionSteps(parts.cross, "cross"), part("Feed-forward network"), ...forwardSteps(parts.forward, data.read, "target")];
}

function outputStage() {
  const at = choice.target, rows = data.candidates[at];
  const bars = rows.flatMap(([token, id, probability]) => [element("span", { title: `id ${id}` }, token), element("div", { class: "bar", style: `width:${Math.max(0.3, 100 * probability)}%` }), element("span", { class: "value" }, probability < 0.0005 ? "<0.1%" : `${(100 * probability).toFixed(1)}%`)]);
  return [step("Linear and softmax", "§3.4", "linear", `The last state times every embedding gives ${count(sizes.vocab_size)} numbers; softmax makes probabilities of them. Having read “${data.read.slice(0, at + 1).join(" ")}”, these tokens are the most probable:`, `T × V = ${shape(data.read.length, count(sizes.vocab_size))}`, element("div", { class: "bars" }, ...bars)),
    step("What is written", "§3.4", null, "The probability of each token of the translation, given those before it.", "", element("div", { class: "chips" }, ...data.target.tokens.map((token, position) => {
      const found = data.candidates[position].find(([, id]) => id === data.target.ids[position]);
      return element("div", { class: "chip" }, element("b", {}, token), element("small", {}, found ? `${(100 * found[2]).toFixed(1)}%` : "rare"));
    })))];
}

function beamStage() {
  if (!data.beams.length) return [step("No search", "§6.1", null, "This translation was given, so that nothing was searched for.", "")];
  const at = choice.beam, rows = data.beams[at];
  const last = at === data.beams.length - 1;
  const words = (each) => each.tokens.join("").replaceAll("␣", " ");
  const state = (each) => (each.finished ? (each.kept ? "finished" : "left out") : !each.kept ? "dropped" : last ? "stopped" : "goes on");
  const line = (each, place) => element("tr", { class: [each.kept ? "" : "dropped", each.finished ? "finished" : ""].join(" ").trim() },
    element("td", { class: "n" }, String(place + 1)), element("td", {}, words(each)), element("td", { class: "n logp" }, show(each.logP)), element("td", { class: "n" }, minus(each.score)),
    element("td", { class: "from" }, at ? `beam ${each.parent + 1}` : "<s>"), element("td", {}, element("span", { class: "state" }, state(each))));
  const heads = [["", "n"], ["hypothesis", ""], ["log P", "n logp"], ["score", "n"], ["from", "from"], ["", ""]];
  const finished = data.beams.slice(0, at + 1).flatMap((step, when) => step.filter((each) => each.kept && each.finished).map((each) => ({ ...each, when })));
  finished.sort((a, b) => b.score - a.score);
  const done = finished.map((each, place) => element("tr", { class: place === 0 && last ? "best finished" : "finished" }, element("td", { class: "n" }, String(place + 1)), element("td", {}, words(each)), element("td", { class: "n" }, minus(each.score)), element("td", {}, `after ${each.when + 1} tokens`)));
  const framed = (label, ...parts) => element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, element("table", { class: "beam" }, ...parts));
  return [step(`The beams after ${at + 1} token${at ? "s" : ""}`, "§6.1", null, "Every beam goes on with every token of the vocabulary, and the most probable hypotheses are kept.", `step ${at + 1} of ${data.beams.length}`,
    framed("beams", element("thead", {}, element("tr", {}, ...heads.map(([text, name]) => element("th", { scope: "col", class: name }, text)))), element("tbody", {}, ...rows.map(line)))),
  step("Finished hypotheses", "§6.1", "score", `Longer ones have a smaller probability, so that the score divides by a length penalty with α = ${sizes.length_penalty}. The search ends when no beam can become better.`, done.length ? `${done.length} so far` : "none so far",
    done.length ? framed("finished hypotheses", element("tbody", {}, ...done)) : null)];
}

// ----- stages and the map -----

const stages = [
  { key: "source", short: "Source", name: "The source", where: "Below the encoder", lead: "The sentence becomes vectors.", draw: sourceStage, controls: ["source"] },
  ...data.encoder.layers.map((_, l) => ({ key: `encoder-${l + 1}`, short: `Encoder ${l + 1}`, name: `Encoder layer ${l + 1}`, where: `Encoder, layer ${l + 1} of ${sizes.encoder_layers}`, lead: "Every source token looks at every other, then each is worked on by itself.", draw: () => encoderStage(l), controls: ["layer", "head", "source"], stack: "encoder" })),
  { key: "target", short: "Target", name: "The target, shifted right", where: "Below the decoder", lead: "What is written so far becomes vectors.", draw: targetStage, controls: ["target"] },
  ...data.decoder.layers.map((_, l) => ({ key: `decoder-${l + 1}`, short: `Decoder ${l + 1}`, name: `Decoder layer ${l + 1}`, where: `Decoder, layer ${l + 1} of ${sizes.decoder_layers}`, lead: "Every target token looks at those before it, then at the source, then each is worked on by itself.", draw: () => decoderStage(l), controls: ["layer", "head", "target"], stack: "decoder" })),
  { key: "output", short: "Output", name: "Linear and softmax", where: "Above the decoder", lead: "The last state of the decoder becomes the next token.", draw: outputStage, controls: ["target"] },
  { key: "beams", short: "Beams", name: "Beam search", where: "Around the model", lead: "The model is asked once for each token; the search keeps several beginnings.", draw: beamStage, controls: ["beam"] },
];

function control(name, label, values, chosen, change) {
  const select = element("select", { id: `choose-${name}`, onchange: (event) => change(Number(event.target.value)) },
    ...values.map((text, at) => element("option", { value: at, selected: at === chosen }, text)));
  return element("label", {}, label, select);
}

function drawControls(stage) {
  const rows = stage.controls.map((name) => {
    if (name === "layer") {
      const first = stages.findIndex((each) => each.stack === stage.stack);
      return control("layer", "layer", data[stage.stack].layers.map((_, l) => String(l + 1)), choice.stage - first, (l) => go(first + l));
    }
    if (name === "head") return control("head", "head", Array.from({ length: sizes.num_attention_heads }, (_, h) => String(h + 1)), choice.head, (h) => choose("head", h));
    if (name === "beam") return data.beams.length ? control("beam", "step of the search", data.beams.map((_, b) => String(b + 1)), choice.beam, (b) => choose("beam", b)) : null;
    const tokens = name === "source" ? data.source.tokens : data.read;
    return control(name, "position", tokens.map((token, p) => `${p}  ${token}`), choice[name], (p) => choose(name, p));
  });
  return element("div", { class: "controls" }, ...rows);
}

function draw() {
  const stage = stages[choice.stage], main = document.getElementById("stage");
  number = 0;
  const walk = (by, label) => element("button", { type: "button", disabled: !stages[choice.stage + by], onclick: () => go(choice.stage + by) }, label(stages[choice.stage + by]));
  main.replaceChildren(element("p", { class: "where" }, stage.where), element("h2", {}, stage.name), element("p", { class: "lead" }, stage.lead), drawControls(stage), ...stage.draw(),
    element("div", { class: "walk" }, walk(-1, (each) => `← ${each ? each.short : "start"}`), walk(1, (each) => `${each ? each.short : "end"} →`)));
  document.querySelectorAll("#map button").forEach((button) => {
    if (Number(button.dataset.stage) === choice.stage) button.setAttribute("aria-current", "step"); else button.removeAttribute("aria-current");
  });
}

function go(to) {
  if (!stages[to]) return;
  choice.stage = to;
  history.replaceState(null, "", `#${stages[to].key}`);
  draw();
  const current = document.querySelector("#map [aria-current]"), map = document.getElementById("map");
  if (map.scrollWidth > map.clientWidth) map.scrollLeft = current.offsetLeft - map.clientWidth / 2;
  const top = document.querySelector(".page").offsetTop;
  if (window.scrollY > top) window.scrollTo(0, top);
}

function choose(name, value) {
  choice[name] = value;
  const focused = document.activeElement && document.activeElement.id, before = window.scrollY;
  draw();
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus({ preventScroll: true });
  window.scrollTo(0, before);
}

function drawMap() {
  const button = (at) => element("button", { type: "button", "data-stage": at, onclick: () => go(at) }, stages[at].short);
  const target = stages.findIndex((each) => each.key === "target");
  const encoder = stages.slice(0, target).map((_, at) => button(at)), decoder = stages.slice(target).map((_, at) => button(target + at));
  document.getElementById("map").append(element("div", { class: "column" }, ...encoder), element("div", { class: "column" }, ...decoder),
    element("p", { class: "hint" }, "Figure 1 of the paper, from bottom to top. ", element("kbd", {}, "←"), " ", element("kbd", {}, "→"), " walk, ", element("kbd", {}, "1"), "…", element("kbd", {}, String(Math.min(9, sizes.num_attention_heads))), " choose a head."));
}

const root_ = document.documentElement, dark = window.matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => { root_.dataset.theme = theme; draw(); };
document.getElementById("text").textContent = data.text;
document.getElementById("translation").textContent = data.translation;
document.getElementById("facts").textContent = `${count(sizes.parameters)} parameters: ${sizes.encoder_layers} encoder and ${sizes.decoder_layers} decoder layers, ${sizes.num_attention_heads} heads, d_model ${sizes.hidden_size}, d_ff ${count(sizes.intermediate_size)}, ${count(sizes.vocab_size)} tokens`;
document.getElementById("theme").addEventListener("click", () => setTheme(root_.dataset.theme === "dark" ? "light" : "dark"));
dark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, .scroll, input, textarea")) return;
  if (event.key === "ArrowRight") go(choice.stage + 1);
  else if (event.key === "ArrowLeft") go(choice.stage - 1);
  else if (/^[1-9]$/.test(event.key) && Number(event.key) <= sizes.num_attention_heads) choose("head", Number(event.key) - 1);
});
window.addEventListener("hashchange", () => { const to = stages.findIndex((each) => `#${each.key}` === location.hash); if (to >= 0 && to !== choice.stage) go(to); });
drawMap();
choice.stage = Math.max(0, stages.findIndex((each) => `#${each.key}` === location.hash));
setTheme(dark.matches ? "dark" : "light");
