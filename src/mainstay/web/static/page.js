// Small helps for every page: times as the reader's clock shows them, ids that can be copied. Nothing here parses HTML.
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function local(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = clock.format(at);
    time.dataset.local = "";
  }
}

function copyable(root) {
  if (!navigator.clipboard) return;
  for (const code of root.querySelectorAll("code.copyable:not([data-copy])")) {
    code.dataset.copy = "";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${code.textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.after(" ", button);
  }
}

function help(root) {
  local(root);
  copyable(root);
}

help(document);
document.addEventListener("htmx:after:swap", () => {
  document.getElementById("stale")?.remove();
  help(document);
});

// A part that could not be refreshed stays as it was, and says so.
function stale() {
  if (document.getElementById("stale")) return;
  const said = document.createElement("p");
  said.id = "stale";
  said.className = "state stale";
  said.setAttribute("role", "status");
  said.textContent = `Not refreshed since ${clock.format(new Date())}: the service does not answer.`;
  document.querySelector("main").prepend(said);
}

document.addEventListener("htmx:error", stale);
document.addEventListener("htmx:response:error", (event) => {
  if (event.detail?.ctx?.response?.raw?.status >= 500) stale();
});
