// Streams an answer where the page would otherwise load a new one. Everything is put in as text; nothing is parsed as HTML.
const form = document.getElementById("ask");
const box = form.elements.q;
const result = document.getElementById("result");
let running = null;

const MODES = { economy: "Limited service", cached_only: "Earlier answers only", sources_only: "Sources only", static: "Not answering now" };

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function pieces(text, citations) {
  const known = new Set(citations.map((one) => one.n));
  return text.split(/\[(\d{1,3})\]/).map((part, at) => {
    if (at % 2 === 0) return part;
    if (!known.has(Number(part))) return `[${part}]`;
    return el("a", { class: "cite", href: `#source-${part}`, "aria-label": `Source ${part}` }, part);
  });
}

function link(source) {
  const at = new URLSearchParams({ version: source.version, start: source.start, end: source.end });
  return `/documents/${encodeURIComponent(source.document)}?${at}#cited`;
}

function source(one) {
  const number = one.n ? el("span", { class: "n", "aria-hidden": "true" }, String(one.n)) : null;
  const where = (one.page ? `page ${one.page} · ` : "") + one.uri;
  return el("li", { id: one.n ? `source-${one.n}` : null },
    number,
    el("a", { href: link(one) }, one.title),
    el("span", { class: "where" }, where),
    el("blockquote", {}, one.quote ?? one.text));
}

function copyable(text) {
  const code = el("code", { class: "id" }, text);
  if (!navigator.clipboard) return [code];
  const button = el("button", { type: "button", class: "quiet copy", "aria-label": "Copy the request id" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return [code, " ", button];
}

function disclosure(answer) {
  const said = answer.model === "extractive"
    ? "Quoted word for word from the documents; no language model was used."
    : `Written by AI (${answer.model}) from the documents below. Check what matters.`;
  return said + (answer.status === "partial" ? " Parts that no source supports were left out." : "");
}

function banner(answer) {
  if (answer.mode === "full" && !answer.notice) return null;
  const mode = answer.mode === "full" ? null : el("strong", {}, `${MODES[answer.mode]}.`);
  return el("div", { class: "banner", role: "status" }, mode, mode ? " " : "", answer.notice ?? "");
}

function money(usd) {
  const amount = Number(usd);
  return amount === 0 ? "$0.00" : `$${amount >= 1 ? amount.toFixed(2) : usd}`;
}

function posted(action, fields, ...more) {
  const hidden = Object.entries(fields).map(([name, value]) => el("input", { type: "hidden", name, value }));
  return el("form", { method: "post", action }, ...hidden, ...more);
}

function feedback(answer) {
  const asked = "What was good or wrong about it?";
  const form = posted("/ask/feedback", { answer: answer.id },
    el("label", { for: "comment", class: "visually-hidden" }, asked),
    el("input", { id: "comment", name: "comment", maxlength: "2000", placeholder: asked }),
    el("button", { class: "quiet", name: "rating", value: "up" }, "Helpful"),
    el("button", { class: "quiet", name: "rating", value: "down" }, "Not helpful"));
  form.className = "feedback";
  return form;
}

function tools(answer, question) {
  if (!("known" in result.dataset)) return null;
  const why = answer.citations.length || answer.sources.length;
  return el("div", { class: "tools" },
    why ? el("a", { class: "quiet", href: `/ask/why/${encodeURIComponent(answer.id)}` }, "Why these sources?") : null,
    answer.status === "handed_off" ? null
      : posted("/ask/hand-over", { q: question, answer: answer.id }, el("button", { class: "quiet" }, "Ask a person")),
    feedback(answer));
}

function whole(answer, question) {
  const tokens = answer.usage.output_tokens ? ` · ${answer.usage.input_tokens} + ${answer.usage.output_tokens} tokens` : "";
  const list = (title, sources) => sources.length ? [el("h2", {}, title), el("ol", { class: "sources" }, ...sources.map(source))] : [];
  return el("article", { class: `answer ${answer.status}` },
    banner(answer),
    el("div", { class: "text", lang: answer.language }, ...pieces(answer.text, answer.citations)),
    answer.questions.length ? el("ul", { class: "questions" }, ...answer.questions.map((one) => el("li", {}, one))) : null,
    answer.citations.length ? el("p", { class: "disclosure" }, disclosure(answer)) : null,
    ...list("Sources", answer.citations),
    ...list("Passages that were found", answer.sources),
    tools(answer, question),
    el("p", { class: "facts" }, ...copyable(answer.id),
      ` · ${Math.round(answer.timings_ms.total)} ms${tokens} · cost ${money(answer.cost_usd)}`
      + (answer.confidence ? ` · confidence ${(answer.confidence * 100).toFixed(0)} %` : "") + (answer.cache.hit ? " · given before" : "")));
}

function failed(title, detail) {
  result.replaceChildren(el("div", { class: "banner wrong", role: "alert" }, el("strong", {}, `${title}.`), ` ${detail}`));
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    for (let cut = held.indexOf("\n\n"); cut >= 0; cut = held.indexOf("\n\n")) {
      const lines = held.slice(0, cut).split("\n");
      held = held.slice(cut + 2);
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (name && data) yield { name, data: JSON.parse(data) };
    }
  }
}

async function ask(question) {
  running?.abort();
  running = new AbortController();
  const text = el("div", { class: "text" });
  const article = el("article", { class: "answer busy", "aria-busy": "true" }, text);
  result.replaceChildren(article);
  const response = await fetch("/v1/answers", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ question, stream: true }),
    signal: running.signal,
  });
  if (!response.ok) {
    const problem = await response.json();
    return failed(problem.title, problem.detail);
  }
  for await (const { name, data } of events(response)) {
    if (name === "delta") text.append(data.text);
    if (name === "notice") article.prepend(el("div", { class: "banner", role: "status" }, data.text));
    if (name === "error") return failed(data.title, data.detail);
    if (name === "done") return result.replaceChildren(whole(data, question));
  }
  return failed("The answer broke off", "Ask again.");
}

async function submit(question, remember) {
  if (remember) history.pushState({ question }, "", `/ask?${new URLSearchParams({ q: question })}`);
  document.title = `${question} – ${document.querySelector(".brand").textContent.trim()}`;
  document.querySelector("main > h1").className = "visually-hidden";
  try {
    await ask(question);
  } catch (error) {
    if (error.name !== "AbortError") failed("No connection", "The service can not be reached. Try again.");
  }
}

form.addEventListener("submit", (event) => {
  const question = box.value.trim();
  if (!question || !window.TextDecoderStream) return;
  event.preventDefault();
  submit(question, true);
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
window.addEventListener("popstate", () => location.reload());
for (const code of document.querySelectorAll(".answer .facts .id")) code.replaceWith(...copyable(code.textContent));
result.setAttribute("aria-live", "polite");
