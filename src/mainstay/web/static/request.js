// The waterfall by keyboard: arrows go from step to step, and what a step says of itself gets the focus once it is there.
const steps = () => [...document.querySelectorAll(".fall tbody a")];

document.addEventListener("keydown", (event) => {
  const here = document.activeElement;
  if (!here?.closest?.(".fall tbody") || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = steps();
  const to = { ArrowDown: all.indexOf(here) + 1, ArrowUp: all.indexOf(here) - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
});

document.addEventListener("htmx:after:swap", () => {
  document.querySelector("#step #step-title")?.focus();
});
