// The half of helpers/radar.py that is seen: one page, drawn from the widget's traits. No dependencies, no build step.
// What users wrote reaches the page as text and attributes only, never as HTML.

const LANGUAGES = { en: "English", zh: "中文" };
const REMEMBERED = "pooling-lab-radar-language";
const TRAITS = [
  "labels",
  "limits",
  "models",
  "samples",
  "poolings",
  "model",
  "settings",
  "status",
  "progress",
  "busy",
  "problem",
];
const RESULTS = ["base", "table", "plane", "found", "why"];
const PATIENCE = 20_000; // milliseconds until a kernel that does not answer is taken for gone
// Keys pressed on these are no shortcuts of JupyterLab, where "b" in a list would insert a cell; it asks the node itself.
const KEYED = { button: 1, input: 1, select: 1, summary: 1, textarea: 1 };
let views = 0; // several views of one widget share a page: ids and radio names must differ

// Nodes

/** Makes an element. `t`, `t-label` and `t-placeholder` name labels, which `translate` fills in. */
function h(tag, given = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (name === "t" || name.startsWith("t-")) node.setAttribute(`data-${name}`, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  if (tag in KEYED || "tabindex" in given) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Sets a text where it is another one; a live region would otherwise be read out again. */
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets a field to a value, unless someone is typing in it. */
function fill(field, value) {
  if (!field.matches(":focus") && field.value !== String(value)) field.value = value;
}

/** Runs `work` only when one of its inputs is another one than last time. */
function memo(work) {
  let last = null;
  return (...inputs) => {
    if (last?.every((input, place) => input === inputs[place])) return;
    last = inputs;
    work(...inputs);
  };
}

/** A text of the user's: shown as it is, in its own direction and, where its letters tell, its language. */
function theirs(tag, text, given = {}) {
  const han = /\p{Script=Han}/u.test(text) && !/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text);
  return h(tag, { dir: "auto", lang: han ? "zh-Hans" : /^[\x20-\x7e]+$/.test(text) ? "en" : "", text, ...given });
}

/** Fills a node with a sentence that quotes a text of the user's where it has a null character. */
function quoting(node, sentence, quoted) {
  const [before, after] = sentence.split("\0");
  node.replaceChildren(before, h("bdi", { text: quoted }), after ?? "");
  return node;
}

/** Replaces the children of a node; what had the focus, by its `data-focus`, has it afterwards as well. */
function rebuild(node, children) {
  const held = node.querySelector(":focus")?.dataset.focus;
  node.replaceChildren(...children);
  if (held) [...node.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === held)?.focus();
}

const card = (title, ...children) =>
  h("section", { class: "radar-card", "t-label": title }, h("h2", { t: title }), ...children);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// The page as a whole

export default {
  render({ model, el }) {
    const app = connect(model, el);
    const [heading, trouble, ...rest] = [
      Heading,
      Trouble,
      Base,
      Model,
      Search,
      Controls,
      Results,
      Plane,
      Dimensions,
    ].map((part) => part(app));
    const [base, chooser, search, controls, results, plane, dimensions] = rest.map((part) => part.node);
    app.draws = [heading, trouble, ...rest].map((part) => part.draw);
    const setup = h("div", { class: "radar-setup" }, base, chooser);
    const work = h("div", { class: "radar-work" }, search, controls, results, plane, dimensions);
    app.root.append(h("div", { class: "radar-page" }, heading.node, trouble.node, setup, work));
    for (const kind of ["mouseover", "focusin"]) app.root.addEventListener(kind, (event) => link(app, event.target));
    for (const kind of ["mouseleave", "focusout"]) app.root.addEventListener(kind, () => link(app, null));
    app.root.addEventListener("keydown", enter);
    el.append(app.root);
    app.draw();
    app.send({ do: "open", language: app.language }, { keep: true });
    return app.leave;
  },
};

/** Ties a view to its model: reading and changing traits, sending, labels, and one draw for many changes. */
function connect(model, el) {
  const app = { id: `radar-${++views}`, language: firstLanguage(), draws: [], pending: {} };
  Object.assign(app, { problem: null, closed: null, asking: false }); // what only the browser knows
  const labels = () => model.get("labels") ?? {};
  let planned = false;
  let timer = 0;
  let patience = 0;
  // A page of its own has no other main part, a notebook has.
  app.root = h("div", { class: "radar", role: document.querySelector("main, [role=main]") ? null : "main" });
  app.get = (name) => model.get(name);
  app.has = (key) => key in (labels().en ?? {});
  app.t = (key, values = {}) =>
    format(labels()[app.language]?.[key] ?? labels().en?.[key] ?? key, values, app.language);
  app.percent = (share) => {
    const digits = share < 0.1 || share > 0.99 ? 1 : 0;
    const shown = new Intl.NumberFormat(app.language, { style: "percent", maximumFractionDigits: digits });
    const edge = share < 0.001 ? "< " : share > 0.999 ? "> " : "";
    return edge + shown.format(clamp(share, 0.001, 0.999));
  };
  app.pooling = (name) => (app.has(`pooling_${name}`) ? app.t(`pooling_${name}`) : name);
  app.settings = () => ({ ...model.get("settings"), ...app.pending });
  /** The threshold of a list: the one set by hand, or else the one calibrated for its own pooling, if there is one. */
  app.threshold = (side = "left") => {
    return app.settings().threshold ?? app.get("found")?.[side]?.meaning?.threshold ?? null;
  };
  app.draw = () => {
    if (planned) return;
    planned = true;
    queueMicrotask(() => {
      planned = false;
      for (const draw of app.draws) draw();
      translate(app);
    });
  };
  /** Shows changed settings at once and tells the kernel when the hand rests. */
  app.change = (some) => {
    Object.assign(app.pending, some);
    clearTimeout(timer);
    timer = setTimeout(flush, 150);
    app.draw();
  };
  const flush = () => {
    if (!Object.keys(app.pending).length) return;
    model.set("settings", app.settings());
    app.pending = {};
    attempt(() => model.save_changes());
  };
  const attempt = (act) => {
    try {
      act();
      return true;
    } catch {
      app.fail("kernel_gone");
      return false;
    }
  };
  app.fail = (key, values = {}) => {
    app.problem = { key, values };
    app.draw();
  };
  /** Sends a message; where an answer is `expected` and none comes, the page says so. */
  app.send = (content, { buffers, keep = false, expected = false } = {}) => {
    flush();
    if (!keep) app.problem = null;
    if (expected) {
      clearTimeout(patience);
      patience = setTimeout(() => loading() || app.fail("kernel_silent"), PATIENCE);
    }
    const sent = attempt(() => model.send(content, undefined, buffers));
    app.draw();
    return sent;
  };
  const loading = () => model.get("busy") && !model.get("progress"); // only this may take long without a word
  const changed = (name) => {
    clearTimeout(patience);
    if (name === "found" || (name === "problem" && app.get("problem"))) app.asking = false;
    if (app.problem?.key === "kernel_silent") app.problem = null;
    app.draw();
  };
  const closed = () => app.fail("kernel_gone");
  const maybeClosed = () => setTimeout(() => el.closest(".jupyter-widgets-disconnected") && closed());
  const heard = [...TRAITS, ...RESULTS].map((name) => [`change:${name}`, () => changed(name)]);
  heard.push(["comm:close", closed], ["comm_live_update", maybeClosed]);
  for (const [name, act] of heard) model.on(name, act);
  app.leave = () => {
    flush();
    clearTimeout(patience);
    for (const [name, act] of heard) model.off(name, act);
  };
  return app;
}

/** Fills placeholders in; numbers are written as the language does. `{{` and `}}` are braces, as in Python. */
function format(text, values, language) {
  return text.replace(/\{\{|\}\}|\{(\w+)[^{}]*\}/g, (whole, name) => {
    if (name === undefined) return whole[0];
    const value = values[name] ?? "";
    return typeof value === "number" ? new Intl.NumberFormat(language).format(value) : String(value);
  });
}

function firstLanguage() {
  try {
    const remembered = localStorage.getItem(REMEMBERED);
    if (remembered in LANGUAGES) return remembered;
  } catch {
    // Some browsers forbid storage to embedded pages; the page works without.
  }
  return navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function translate(app) {
  app.root.lang = app.language === "zh" ? "zh-Hans" : "en";
  for (const node of app.root.querySelectorAll("[data-t]")) put(node, app.t(node.dataset.t));
  for (const node of app.root.querySelectorAll("[data-t-label]"))
    node.setAttribute("aria-label", app.t(node.dataset.tLabel));
  for (const node of app.root.querySelectorAll("[data-t-placeholder]"))
    node.placeholder = app.t(node.dataset.tPlaceholder);
}

/** Sends a field's form by Enter, which JupyterLab keeps browsers from doing; not while an input method is at work. */
function enter(event) {
  const field = event.target;
  if (event.key !== "Enter" || event.isComposing || !field.matches("input:not([type=checkbox], [type=file])")) return;
  event.preventDefault();
  if (field.form) field.form.requestSubmit();
  else field.dispatchEvent(new Event("change"));
}

/** Marks a line wherever it is shown, in the lists and on the map, while the pointer or the focus is on it. */
function link(app, target) {
  app.row = target?.closest("[data-row]")?.dataset.row;
  for (const node of app.root.querySelectorAll("[data-row]")) linked(app, node);
}

const linked = (app, node) => node.classList.toggle("is-linked", node.dataset.row === app.row);

// Heading and problem

function Heading(app) {
  const choose = (language) => {
    app.language = language;
    try {
      localStorage.setItem(REMEMBERED, language);
    } catch {
      // Not remembered, then.
    }
    app.draw();
  };
  const buttons = Object.entries(LANGUAGES).map(([language, text]) =>
    h("button", { type: "button", lang: language, text, onclick: () => choose(language) }),
  );
  const draw = () => {
    buttons.forEach((button) => button.setAttribute("aria-pressed", button.lang === app.language));
  };
  const title = h("div", {}, h("h1", { t: "title" }), h("p", { t: "lead", class: "radar-quiet" }));
  const languages = h("div", { class: "radar-segments", role: "group", "t-label": "language" }, ...buttons);
  return { node: h("header", { class: "radar-heading" }, title, languages), draw };
}

function Trouble(app) {
  const text = h("p", { dir: "auto" });
  const close = () => {
    app.closed = app.get("problem");
    app.send({ do: "close_problem" });
  };
  const button = h("button", { type: "button", class: "radar-close", "t-label": "close", text: "×", onclick: close });
  const box = h("div", { class: "radar-problem", hidden: true }, text, button);
  const show = memo((problem, language) => {
    box.hidden = !problem;
    put(text, problem ? app.t(problem.key, problem.values) : "");
    if (problem) box.scrollIntoView({ block: "nearest" });
  });
  const draw = () => {
    const problem = app.get("problem");
    show(app.problem ?? (problem === app.closed ? null : problem), app.language);
  };
  return { node: h("div", { role: "alert" }, box), draw };
}

// Knowledge base

function Base(app) {
  const ways = { samples: Samples(app), text: TextBox(app), file: FilePicker(app) };
  let way = "samples";
  const tab = (name) => {
    const pick = () => {
      way = name;
      app.draw();
    };
    const radio = h("input", { type: "radio", name: `${app.id}-way`, checked: name === way, onchange: pick });
    return h("label", {}, radio, h("span", { t: `way_${name}` }));
  };
  const tabs = h("fieldset", { class: "radar-segments" }, h("legend", { t: "ways", class: "radar-unseen" }));
  tabs.append(...Object.keys(ways).map(tab));
  const report = h("div", { class: "radar-report" });
  const tell = memo((base) => rebuild(report, base ? described(app, base) : []));
  const draw = () => {
    for (const [name, part] of Object.entries(ways)) {
      part.node.hidden = name !== way;
      part.draw();
    }
    tell(app.get("base"), app.language, app.get("labels"));
  };
  // A file that misses the box would make the browser leave the page.
  const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
  app.root.addEventListener("dragover", (event) => holdsFile(event) && event.preventDefault());
  app.root.addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    tabs.querySelector("label:last-child input").click(); // a table asks for its column there
    sendFile(app, event.dataTransfer.files[0]);
  });
  const panels = Object.values(ways).map((part) => part.node);
  return { node: card("base", tabs, ...panels, report), draw };
}

function Samples(app) {
  const node = h("div", { class: "radar-samples" });
  const show = memo((samples, source) => {
    const buttons = samples.map(({ name, language, lines }) => {
      const use = () => app.send({ do: "sample", name, language }, { expected: true });
      const used = source?.kind === "sample" && source.name === name && (source.language ?? language) === language;
      const about = app.t("sample_about", { language: app.t(`language_${language}`), lines });
      const given = { type: "button", "data-focus": `${name} ${language}`, "aria-pressed": String(used), onclick: use };
      return h("button", given, h("b", { text: app.t(`sample_${name}`) }), h("span", { text: about }));
    });
    rebuild(node, buttons);
  });
  return { node, draw: () => show(app.get("samples") ?? [], app.get("base")?.source, app.language, app.get("labels")) };
}

function TextBox(app) {
  const area = h("textarea", { rows: 7, dir: "auto", spellcheck: "false", "t-placeholder": "text_hint" });
  const counted = h("span", { class: "radar-quiet" });
  const count = () => area.value.split("\n").filter((line) => line.trim()).length;
  const use = (event) => {
    event?.preventDefault();
    sendParts(app, "text", "", new Blob([area.value]));
  };
  area.addEventListener("input", app.draw);
  area.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && use(event));
  const label = h("label", {}, h("span", { t: "text_label" }), area);
  const foot = h("div", { class: "radar-row" }, h("button", { type: "submit", t: "text_use" }), counted);
  const draw = memo(() => put(counted, app.t("text_counted", { lines: count(), limit: app.get("limits")?.lines })));
  return {
    node: h("form", { onsubmit: use }, label, foot),
    draw: () => draw(area.value, app.language, app.get("limits")),
  };
}

function FilePicker(app) {
  const input = h("input", { type: "file", accept: ".txt,.md,.csv,.tsv,text/*", class: "radar-unseen" });
  input.addEventListener("change", () => {
    if (input.files.length) sendFile(app, input.files[0]);
    input.value = ""; // so that the same file, put right, can be chosen again
  });
  const hint = h("span", { class: "radar-quiet" });
  const drop = h("label", { class: "radar-drop" }, input, h("b", { t: "file_choose" }), hint);
  const over = (event) => drop.classList.toggle("is-over", event.type === "dragover");
  for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, over);
  const columns = Columns(app);
  const draw = () => {
    const { file_bytes: bytes = 0, lines } = app.get("limits") ?? {};
    put(hint, app.t("file_hint", { megabytes: Math.round(bytes / 2 ** 20), lines }));
    columns.draw();
  };
  return { node: h("div", {}, drop, columns.node), draw };
}

/** Asks which column of a table holds the sentences. */
function Columns(app) {
  const title = h("p", { dir: "auto" });
  const select = h("select", { onchange: app.draw });
  const header = h("input", { type: "checkbox", onchange: app.draw });
  const preview = h("table");
  const use = (event) => {
    event.preventDefault();
    app.send({ do: "column", index: select.selectedIndex, header: header.checked }, { expected: true });
  };
  const form = h(
    "form",
    { class: "radar-columns", hidden: true, onsubmit: use },
    title,
    h("label", { class: "radar-check" }, header, h("span", { t: "column_header" })),
    h("label", {}, h("span", { t: "column_label" }), select),
    h("div", { class: "radar-scroll", tabindex: 0, role: "group", "t-label": "column_preview" }, preview),
    h("button", { type: "submit", t: "column_use" }),
  );
  const fresh = memo((table) => {
    form.hidden = !table;
    header.checked = true;
    select.replaceChildren(...(table?.columns ?? []).map(() => h("option")));
  });
  const show = memo((table, named, chosen) => {
    if (!table) return;
    const names = table.columns.map((name, place) => (named && name) || app.t("column_number", { number: place + 1 }));
    put(title, app.t("column_title", { name: table.name, rows: table.rows - named }));
    names.forEach((name, place) => put(select.options[place], name));
    const rows = named ? table.preview : [table.columns, ...table.preview];
    const cell = (tag, text, place) => theirs(tag, text, { class: place === chosen ? "is-chosen" : null });
    const head = h("tr", {}, ...names.map((name, place) => cell("th", name, place)));
    preview.replaceChildren(
      h("thead", {}, head),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((text, place) => cell("td", text, place))))),
    );
  });
  const draw = () => {
    const table = app.get("table");
    fresh(table);
    show(table, header.checked, select.selectedIndex, app.language);
  };
  return { node: form, draw };
}

/** Says what was read, and what was left out or cut of it. */
function described(app, base) {
  const name = base.source.kind === "sample" ? app.t(`sample_${base.source.name}`) : base.source.name;
  const nodes = [quoting(h("p"), app.t(`base_${base.source.kind}`, { name: "\0", lines: base.lines }), name)];
  const counts = ["blank", "symbols", "repeated"].filter((kind) => base[kind]);
  const left = counts.map((kind) => app.t(`base_${kind}`, { lines: base[kind] })).join(app.t("comma"));
  nodes.push(h("p", { class: "radar-quiet", text: left ? app.t("base_left", { left }) : app.t("base_whole") }));
  if (base.mixed) nodes.push(h("p", { text: app.t("base_mixed", { language: app.t(`language_${base.language}`) }) }));
  const listed = (key, lines, items) => {
    const more = lines > items.length ? h("p", { text: app.t("base_more", { lines: lines - items.length }) }) : null;
    const list = h("ul", {}, ...items.map(([text, note]) => h("li", {}, theirs("span", text), h("b", { text: note }))));
    return h("details", {}, h("summary", { "data-focus": key, text: app.t(key, { lines }) }), list, more);
  };
  const times = base.repeats.map(([text, more]) => [text, app.t("times_more", { times: more })]);
  const lost = base.lost.map(([row, text, tokens]) => [text, app.t("tokens_lost", { line: row + 1, tokens })]);
  if (base.repeated) nodes.push(listed("repeats", base.repeated, times));
  if (base.cut) nodes.push(listed("cut", base.cut, lost));
  return nodes;
}

function sendFile(app, file) {
  return sendParts(app, "file", file.name, file);
}

/** Sends a text or a file in parts: one message of its size would cut the connection. */
async function sendParts(app, kind, name, blob) {
  const { file_bytes: most, chunk } = app.get("limits");
  if (blob.size > most) {
    return app.fail("too_large", { name: name || app.t("way_text"), limit: Math.round(most / 2 ** 20) });
  }
  const upload = (app.upload = {}); // a newer upload, or Stop, takes its place and ends this one
  const parts = Math.max(1, Math.ceil(blob.size / chunk));
  try {
    for (let part = 0; part < parts && app.upload === upload; part++) {
      const buffer = await blob.slice(part * chunk, (part + 1) * chunk).arrayBuffer();
      const content = { do: "part", kind, name, part, parts };
      if (!app.send(content, { buffers: [buffer], expected: part === parts - 1 })) return undefined;
      await new Promise((done) => setTimeout(done, 10)); // the connection takes a breath
    }
  } catch {
    app.fail("file_unreadable", { name });
  }
  return undefined;
}

// Model and status

function Model(app) {
  const load = (name) => app.send({ do: "model", name }, { expected: true });
  const select = h("select", { onchange: () => load(select.value) });
  const about = h("p", { class: "radar-quiet" });
  const field = h("input", { type: "text", autocomplete: "off", spellcheck: "false", "t-placeholder": "model_hint" });
  const own = (event) => {
    event.preventDefault();
    if (field.value.trim()) load(field.value.trim());
  };
  const status = Status(app);
  const form = h(
    "form",
    { class: "radar-line-form", onsubmit: own },
    h("label", { class: "radar-grow" }, h("span", { t: "model_own" }), field),
    h("button", { type: "submit", t: "model_load" }),
  );
  const other = h("details", {}, h("summary", { t: "model_other" }), form); // seldom used, and phones are small
  const options = memo((models, chosen) => {
    const names = models.includes(chosen) ? models : [...models, chosen];
    select.replaceChildren(...names.map((name) => h("option", { value: name, text: name })));
    select.value = chosen;
  });
  const draw = () => {
    const chosen = app.get("model");
    options(app.get("models") ?? [], chosen);
    select.value = chosen; // again, where the kernel refused what was chosen here
    put(about, app.has(`model_${chosen}`) ? app.t(`model_${chosen}`) : "");
    status.draw();
  };
  const choice = h("label", {}, h("span", { t: "model_label" }), select);
  return { node: card("models", choice, about, other, status.node), draw };
}

function Status(app) {
  const line = h("p", { role: "status" });
  const bar = h("progress", { "t-label": "progress" });
  const stop = () => {
    app.upload = null;
    app.send({ do: "stop" });
  };
  const button = h("button", { type: "button", t: "stop", onclick: stop });
  const count = h("span", { class: "radar-quiet" }); // outside the live line, which would be read out at every step
  const work = h("div", { class: "radar-row" }, bar, count, button);
  const draw = () => {
    const { key, values } = app.get("status") ?? {};
    const progress = app.get("progress");
    const busy = Boolean(app.get("busy"));
    put(line, key ? app.t(`status_${key}`, values) : "");
    line.className = busy ? "is-busy" : key === "ready" ? "is-ready" : "";
    work.hidden = !busy;
    put(count, progress ? app.t("progress_of", progress) : "");
    if (!progress) return bar.removeAttribute("value");
    bar.max = progress.total;
    bar.value = progress.done;
    return undefined;
  };
  return { node: h("div", { class: "radar-status" }, line, work), draw };
}

// Search and controls

function Search(app) {
  const input = h("input", { type: "search", autocomplete: "off", dir: "auto", "t-placeholder": "query_hint" });
  const ask = (event) => {
    event.preventDefault();
    const query = input.value;
    app.asking = true;
    app.send({ do: "search", query }, { expected: true });
  };
  const shown = memo((query) => query && fill(input, query)); // a sample asks its own question
  const label = h("label", { class: "radar-grow" }, h("span", { t: "query_label" }), input);
  const form = h(
    "form",
    { class: "radar-line-form", role: "search", onsubmit: ask },
    label,
    h("button", { type: "submit", t: "search" }),
  );
  return { node: h("div", { class: "radar-card radar-search" }, form), draw: () => shown(app.get("found")?.query) };
}

function Controls(app) {
  const sides = ["left", "right"].map((side) => Pooling(app, side));
  const normalize = h("input", {
    type: "checkbox",
    role: "switch",
    onchange: () => app.change({ normalize: normalize.checked }),
  });
  const sense = h("p", { class: "radar-quiet" });
  const top = h("input", { type: "number", min: 1, step: 1, inputmode: "numeric" });
  numeric(
    top,
    () => [1, app.get("limits")?.top_k ?? 50],
    0,
    (value) => app.change({ top_k: value }),
  );
  const limit = Threshold(app);
  const now = h("span", { class: "radar-quiet" });
  const draw = () => {
    const settings = app.settings();
    normalize.checked = settings.normalize;
    put(sense, app.t(settings.normalize ? "normalize_on" : "normalize_off"));
    top.max = app.get("limits")?.top_k ?? 50;
    fill(top, settings.top_k);
    const poolings = [...new Set([settings.left, settings.right])].filter(Boolean).join(app.t("comma"));
    const threshold = app.threshold()?.toFixed(3) ?? app.t("not_measured");
    put(now, app.t("controls_now", { poolings, threshold }));
    for (const part of [...sides, limit]) part.draw();
  };
  const choices = h("div", { class: "radar-choices" }, ...sides.map((side) => side.node));
  choices.append(h("label", {}, h("span", { t: "top_k" }), top));
  const onOff = h("label", { class: "radar-check" }, normalize, h("span", { t: "normalize" }));
  const open = matchMedia("(min-width: 720px)").matches; // on a phone the results come first
  const node = h(
    "details",
    { class: "radar-card", open },
    h("summary", {}, h("h2", { t: "controls" }), now),
  );
  node.append(choices, h("div", { class: "radar-normalize" }, onOff, sense), limit.node);
  return { node, draw };
}

function Pooling(app, side) {
  const select = h("select", { onchange: () => app.change({ [side]: select.value }) });
  const options = memo((poolings) => {
    const names = side === "right" ? ["", ...poolings] : poolings;
    select.replaceChildren(
      ...names.map((name) => h("option", { value: name, text: name ? app.pooling(name) : app.t("none") })),
    );
  });
  const draw = () => {
    options(app.get("poolings") ?? [], app.language, app.get("labels"));
    select.value = app.settings()[side];
  };
  return { node: h("label", {}, h("span", { t: `pooling_${side}` }), select), draw };
}

/** Makes a number field act on each valid value, and bring any other back between its bounds when it is left. */
function numeric(field, bounds, digits, act) {
  const round = (value) => Number(clamp(value, ...bounds()).toFixed(digits));
  field.addEventListener("input", () => {
    const value = field.valueAsNumber;
    if (Number.isFinite(value) && value === round(value)) act(value);
  });
  field.addEventListener("change", () => {
    const value = Number.isFinite(field.valueAsNumber)
      ? round(field.valueAsNumber)
      : round(Number(field.dataset.last ?? bounds()[0]));
    field.value = digits ? value.toFixed(digits) : value;
    act(value);
  });
  field.addEventListener("focus", () => (field.dataset.last = field.value));
}

function Threshold(app) {
  const set = (threshold) => app.change({ threshold });
  const range = h("input", { type: "range", max: 1, step: 0.001, "t-label": "threshold" });
  range.addEventListener("input", () => set(range.valueAsNumber));
  const number = h("input", { type: "number", min: -1, max: 1, step: 0.001, inputmode: "decimal" });
  numeric(number, () => [-1, 1], 3, set);
  const marks = ["left", "right", "article"].map((of) => ({
    of,
    button: h("button", { type: "button" }),
    tick: h("i"),
  }));
  for (const mark of marks) mark.button.addEventListener("click", () => set(mark.of === "article" ? mark.value : null));
  const sentences = ["promise", "here", "article", "caveat"].map(() => h("p"));
  const drawMark = (mark, found, now) => {
    const side = found?.[mark.of];
    mark.value = mark.of === "article" ? app.get("limits").article : side?.meaning?.threshold;
    const shown = mark.value != null && !(mark.of === "right" && side.pooling === found.left.pooling);
    mark.button.hidden = mark.tick.hidden = !shown;
    if (!shown) return;
    const [low, high] = [side?.meaning?.low, side?.meaning?.high].map((end) => end?.toFixed(3));
    const values = { pooling: side?.pooling, threshold: mark.value.toFixed(3), low, high };
    put(mark.button, app.t(mark.of === "article" ? "mark_article" : "mark_calibrated", values));
    mark.button.setAttribute(
      "aria-pressed",
      Math.abs((mark.of === "right" ? app.threshold("right") : (now ?? Infinity)) - mark.value) < 5e-4,
    );
    mark.tick.style.setProperty("--at", clamp(mark.value, 0, 1));
  };
  const draw = () => {
    const [now, found] = [app.threshold(), app.get("found")];
    range.min = now < 0 ? -1 : 0; // most cosines are positive, and the slider is finer without the rest
    range.value = now ?? 1;
    fill(number, now?.toFixed(3) ?? "");
    measure.hidden = Boolean(found?.left.meaning || app.get("busy") || !app.get("base"));
    for (const mark of marks) drawMark(mark, found, now);
    const texts = promises(app, now, found?.left);
    sentences.forEach((sentence, place) => {
      put(sentence, texts[place]);
      sentence.hidden = !texts[place];
    });
  };
  const slider = h("div", { class: "radar-slider" }, range, h("span", {}, ...marks.map((mark) => mark.tick)));
  const label = h("label", {}, h("span", { t: "threshold" }), number);
  const choices = h("div", { class: "radar-marks" }, ...marks.map((mark) => mark.button));
  const measure = h("button", { type: "button", t: "measure", onclick: () => app.send({ do: "calibrate" }) });
  const meaning = h("div", { class: "radar-quiet" }, ...sentences);
  return {
    node: h("div", { class: "radar-threshold" }, h("div", { class: "radar-row" }, label, slider), choices, meaning, measure),
    draw,
  };
}

/** Says what the threshold means under this model and pooling. */
function promises(app, now, side) {
  const meaning = side?.meaning;
  if (!meaning) return [app.t("promise_none"), "", "", ""];
  const { threshold, items, model } = meaning;
  const at = {
    model,
    pooling: side.pooling,
    language: app.t(`language_${meaning.language}`),
    items,
  };
  const [value, low, high] = [threshold, meaning.low, meaning.high].map((one) => one?.toFixed(3));
  const here = now == null ? null : { threshold: now.toFixed(3), share: app.percent(along(meaning.curve, now)) };
  return [
    threshold == null ? app.t("promise_missing", at) : app.t("promise", { ...at, threshold: value, low, high }),
    here ? app.t("probability_here", here) : "",
    app.t("probability_article", { ...at, share: app.percent(meaning.at_article) }),
    meaning.one_right == null
      ? app.t("caveat")
      : app.t("caveat_lines", { lines: meaning.lines, share: app.percent(meaning.one_right) }),
  ];
}

/** Reads a curve, [[cosine, probability], …] by rising cosine, between its points. */
function along(curve, at) {
  const next = curve.findIndex(([cosine]) => cosine >= at);
  if (next <= 0) return curve[next ? curve.length - 1 : 0][1];
  const [[x0, y0], [x1, y1]] = [curve[next - 1], curve[next]];
  return y0 + ((y1 - y0) * (at - x0)) / (x1 - x0);
}

// Results

function Results(app) {
  const title = h("h2");
  const summary = h("p", { role: "status", class: "radar-quiet" });
  const lists = h("div", { class: "radar-lists" });
  const why = Why(app);
  let number = 0;
  const show = memo((found) => {
    rebuild(
      lists,
      ["left", "right"].filter((side) => found?.[side]).map((side) => list(app, found, side, why)),
    );
    why.draw();
  });
  const head = memo((found) => {
    if (found) quoting(title, app.t("results_for", { query: "\0" }), found.query);
    else put(title, app.t("results"));
    if (found && found.number !== number && number && title.getBoundingClientRect().top > innerHeight) {
      title.scrollIntoView({ block: "start" }); // on a phone they would stay out of sight
    }
    number = found?.number ?? number;
  });
  const draw = () => {
    const found = app.get("found");
    show(found, app.language, app.get("labels"));
    head(found, app.language, app.get("labels"));
    mark(app);
    const sides = ["left", "right"].filter((side) => found?.[side]);
    const state = app.asking ? "results_search" : app.get("base") ? "results_ask" : "results_wait";
    put(summary, sides.length && !app.asking ? sides.map((side) => counted(app, found, side)).join(" ") : app.t(state));
    lists.setAttribute("aria-busy", app.asking);
    why.draw();
  };
  return { node: h("section", { class: "radar-card", "t-label": "results" }, title, summary, lists), draw };
}

/** Marks what reaches the threshold of its list, in the lists and on the map. */
function mark(app) {
  for (const node of app.root.querySelectorAll("[data-cosine]")) {
    const threshold = app.threshold(node.dataset.side) ?? Infinity;
    node.classList.toggle("is-above", Number(node.dataset.cosine) >= threshold);
    node.style.setProperty("--threshold", clamp(threshold, 0, 1));
    linked(app, node);
  }
}

function counted(app, found, side) {
  const [{ hits, pooling }, threshold] = [found[side], app.threshold(side)];
  if (threshold == null) return app.t("results_unmeasured", { lines: hits.length, pooling });
  const above = hits.filter((hit) => hit.cosine >= threshold).length;
  return app.t("results_above", { above, lines: hits.length, threshold: threshold.toFixed(3), pooling });
}

function list(app, found, side, why) {
  const other = found[side === "left" ? "right" : "left"];
  const ranks = new Map(other?.hits.map((hit, place) => [hit.row, place + 1]));
  const elsewhere = (hit) => {
    if (!other) return null;
    const values = { pooling: other.pooling, rank: ranks.get(hit.row), lines: other.hits.length };
    return app.t(ranks.has(hit.row) ? "other_rank" : "other_none", values);
  };
  const hits = found[side].hits.map((hit, place) =>
    Hit(app, { found, side, hit, rank: place + 1, elsewhere: elsewhere(hit), why }),
  );
  return h(
    "section",
    {},
    h("h3", { text: app.t("list_title", { pooling: app.pooling(found[side].pooling) }) }),
    h("ol", {}, ...hits),
  );
}

function Hit(app, { found, side, hit, rank, elsewhere, why }) {
  const facts = [app.t("cosine", { cosine: hit.cosine.toFixed(4) })];
  if (!found.normalize) facts.push(app.t("dot_product", { score: hit.score.toFixed(4) }));
  if (hit.probability != null) facts.push(app.t("probability", { share: app.percent(hit.probability) }));
  if (elsewhere) facts.push(elsewhere);
  const shown = facts.map((text, place) => h(place ? "span" : "b", { text }));
  const bar = h("span", { class: "radar-bar", "aria-hidden": "true" }, h("i"), h("b"));
  bar.style.setProperty("--at", clamp(hit.cosine, 0, 1));
  const key = `${side} ${hit.row}`;
  const button = h("button", {
    type: "button",
    class: "radar-why-button",
    "data-focus": key,
    "data-why": key,
    text: app.t("why"),
  });
  button.setAttribute("aria-label", app.t("why_line", { rank, line: hit.line }));
  button.addEventListener("click", () => why.toggle(side, hit.row));
  return h(
    "li",
    { class: "radar-hit", "data-row": hit.row, "data-side": side, "data-cosine": hit.cosine },
    h("span", { class: "radar-rank", text: rank, "aria-hidden": "true" }),
    theirs("p", hit.line, { class: "radar-line" }),
    bar,
    h("p", { class: "radar-facts" }, ...shown, h("span", { class: "radar-above", text: app.t("above") })),
    button,
  );
}

/** Opens, below a hit, which tokens its cosine comes from. */
function Why(app) {
  const panel = h("div", { class: "radar-why", role: "group", "t-label": "why_title" });
  let open = null;
  const toggle = (side, row) => {
    open = open?.side === side && open.row === row ? null : { side, row, asked: app.get("found") };
    if (open) app.send({ do: "why", side, row });
    app.draw();
  };
  const tell = memo((why) => rebuild(panel, why ? explained(app, why) : [h("p", { t: "why_wait" })]));
  const draw = () => {
    const why = app.get("why");
    if (open && !why && open.asked !== app.get("found")) open = null; // it was about another search
    const key = open && `${open.side} ${open.row}`;
    const buttons = [...app.root.querySelectorAll("[data-why]")];
    for (const button of buttons) button.setAttribute("aria-expanded", button.dataset.why === key);
    const hit = buttons.find((button) => button.dataset.why === key)?.closest("li");
    if (!hit) return panel.remove();
    if (panel.parentNode !== hit) hit.append(panel);
    return tell(why?.side === open.side && why.row === open.row ? why : null, app.language);
  };
  return { toggle, draw };
}

function explained(app, why) {
  const most = Math.max(...[...why.query.tokens, ...why.text.tokens].map(([, , beyond]) => Math.abs(beyond)), 1e-9);
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
  const greatest = (tokens, place, sign = 1) =>
    tokens.reduce((best, one) => (sign * one[place] > sign * best[place] ? one : best));
  const chip = ([token, , beyond]) => {
    const given = { class: beyond < 0 ? "is-negative" : null };
    const node = h("li", given, theirs("span", token), h("small", { text: signed(beyond) }));
    node.style.setProperty("--share", Math.abs(beyond) / most);
    return node;
  };
  const part = (key, { tokens, cosine, beyond }) => {
    const [apart, adds] = [greatest(tokens, 2, Math.sign(beyond) || 1), greatest(tokens, 1)];
    const says = [
      app.t(beyond < 0 ? "why_short" : "why_apart", { token: apart[0], share: signed(apart[2]), beyond: signed(beyond) }),
      app.t("why_greatest", { token: adds[0], share: adds[1].toFixed(4), cosine: cosine.toFixed(4) }),
    ];
    const chips = h("ul", { class: "radar-tokens" }, ...tokens.map(chip));
    return [h("h4", { text: app.t(key) }), chips, h("p", { text: says.join(" ") })];
  };
  const sum = h("p", { class: "radar-quiet", text: app.t("why_sum") });
  const { pooling } = app.get("found")[why.side];
  const values = { pooling, cosine: why.query.cosine.toFixed(4) };
  const other = pooling === "mean" ? [] : [h("p", { text: app.t("why_mean", values) })];
  return [...other, ...part("why_query", why.query), ...part("why_text", why.text), sum];
}

// Map and dimensions

const MAP = { width: 480, height: 340, margin: 24 };

function Plane(app) {
  const holder = h("div", { class: "radar-map" });
  const said = h("p", { class: "radar-quiet" });
  const show = memo((found, plane) => {
    if (!found || !plane) return;
    rebuild(holder, [picture(app, found, plane.points)]);
    mark(app);
    put(said, app.t("map_says", { pooling: plane.pooling, share: app.percent(plane.explained), dim: found.dim }));
  });
  const node = card("map", h("p", { t: "map_key", class: "radar-quiet" }), holder, said);
  const draw = () => {
    const found = app.get("found");
    node.hidden = !found;
    show(found, app.get("plane"), app.language, app.get("labels"));
  };
  return { node, draw };
}

function picture(app, found, points) {
  const { hits } = found.left;
  const place = scale([...points, ...found.pins, found.star]);
  const ranks = new Map(hits.map((hit, rank) => [hit.row, rank]));
  const titled = (node, text) => (node.append(h("svg:title", { text })), node);
  const dots = points
    .filter(([, , row]) => !ranks.has(row))
    .map(([x, y, row, text]) => {
      const [cx, cy] = place([x, y]);
      return titled(h("svg:circle", { class: "radar-dot", cx, cy, r: 3, "data-row": row }), text);
    });
  const pins = found.pins.map(([x, y], rank) => [x, y, hits[rank].row]).reverse(); // the first on top
  const numbered = pins.map(([x, y, row]) => {
    const rank = ranks.get(row);
    const hit = hits[rank];
    const go = () => app.root.querySelector(`[data-why="left ${row}"]`)?.focus();
    const press = (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), go());
    const title = app.t("map_hit", { rank: rank + 1, line: hit.line, cosine: hit.cosine.toFixed(4) });
    const given = { class: "radar-pin", tabindex: 0, role: "button", "aria-label": title, "data-focus": `map ${row}` };
    const node = h("svg:g", {
      ...given,
      "data-row": row,
      "data-side": "left",
      "data-cosine": hit.cosine,
      onclick: go,
      onkeydown: press,
    });
    node.setAttribute("transform", `translate(${place([x, y]).join(" ")})`);
    node.append(h("svg:circle", { r: 10 }), h("svg:text", { y: 4, text: rank + 1 }));
    return titled(node, title);
  });
  const star = h("svg:path", { class: "radar-star", d: STAR, transform: `translate(${place(found.star).join(" ")})` });
  const size = `0 0 ${MAP.width} ${MAP.height}`;
  return h(
    "svg:svg",
    { viewBox: size, role: "group", "aria-label": app.t("map") },
    ...dots,
    ...numbered,
    titled(star, found.query),
  );
}

const STAR =
  Array.from({ length: 10 }, (_, corner) => {
    const [angle, radius] = [(corner * Math.PI) / 5, corner % 2 ? 5 : 13];
    return `${corner ? "L" : "M"}${(radius * Math.sin(angle)).toFixed(2)} ${(-radius * Math.cos(angle)).toFixed(2)}`;
  }).join("") + "Z";

/** Fits points into the picture; both axes share one scale, so that distances stay comparable. */
function scale(points) {
  const span = (axis) =>
    points.reduce(([low, high], one) => [Math.min(low, one[axis]), Math.max(high, one[axis])], [Infinity, -Infinity]);
  const [[left, right], [bottom, top]] = [span(0), span(1)];
  const inner = (size) => size - 2 * MAP.margin;
  const unit = Math.min(inner(MAP.width) / (right - left || 1e-9), inner(MAP.height) / (top - bottom || 1e-9), 1e6);
  const [x, y] = [(left + right) / 2, (bottom + top) / 2];
  return (one) => [(MAP.width / 2 + (one[0] - x) * unit).toFixed(1), (MAP.height / 2 - (one[1] - y) * unit).toFixed(1)];
}

function Dimensions(app) {
  const holder = h("div", { class: "radar-map" });
  const title = h("summary");
  const show = memo((values) => values && holder.replaceChildren(bars(app, values)));
  const node = h(
    "details",
    { class: "radar-card" },
    title,
    h("p", { t: "dimensions_mean", class: "radar-quiet" }),
    holder,
  );
  const draw = () => {
    const found = app.get("found");
    node.hidden = !found?.dimensions;
    put(title, app.t("dimensions", { shown: found?.dimensions?.length ?? 0, dim: found?.dim ?? 0 }));
    show(found?.dimensions, app.language);
  };
  return { node, draw };
}

function bars(app, values) {
  const [wide, middle] = [480 / values.length, 80];
  const most = Math.max(...values.map(Math.abs), 1e-9);
  const bar = (value, place) => {
    const height = (Math.abs(value) / most) * 68;
    const given = { x: place * wide + 1, width: wide - 2, y: value < 0 ? middle : middle - height, height };
    const title = h("svg:title", { text: app.t("dimension", { number: place + 1, value: value.toFixed(4) }) });
    return h("svg:rect", { class: value < 0 ? "is-negative" : null, ...given }, title);
  };
  const label = (number) => h("svg:text", { x: (number - 0.5) * wide, y: 170, text: number });
  const numbers = [1, ...[10, 20, 30, 40, 50].filter((one) => one <= values.length)];
  const axis = h("svg:line", { x2: 480, y1: middle, y2: middle });
  const picture = { viewBox: "-8 0 496 176", role: "img", "aria-label": app.t("dimensions_picture") };
  return h("svg:svg", picture, ...values.map(bar), axis, ...numbers.map(label));
}
