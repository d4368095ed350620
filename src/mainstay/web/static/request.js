// The waterfall by keyboard, as a tree grid has it: up and down from step to step, right into a step that is closed, left to
// the step above. What a step says of itself gets the focus once it is there.
const steps = () => [...document.querySelectorAll(".fall tbody tr")];
const link = (row) => row?.querySelector("a");

function up(rows, n) {
  const level = (row) => Number(row.getAttribute("aria-level"));
  for (let at = n - 1; at >= 0; at--) if (level(rows[at]) < level(rows[n])) return rows[at];
  return null;
}

document.addEventListener("keydown", (event) => {
  const row = document.activeElement?.closest?.(".fall tbody tr");
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = steps();
  const n = rows.indexOf(row);
  const inside = event.key === "ArrowRight" && row.querySelector("a.inside");
  const to = inside || link({
    ArrowDown: rows[n + 1], ArrowUp: rows[n - 1], Home: rows[0], End: rows[rows.length - 1],
    ArrowLeft: event.key === "ArrowLeft" ? up(rows, n) : null,
  }[event.key]);
  if (!to) return;
  event.preventDefault();
  to.focus();
});

document.addEventListener("htmx:after:swap", () => {
  document.querySelector("#step #step-title")?.focus();
});
