// @ts-check
// The browser of an attempt as a view of its own.

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const desk = deskOf(model, model.get("begun"));
  const browser = attemptBrowser(el, desk, model.get("shown"), model.get("looks"), { shown: (which) => change(model, { shown: which }) });
  const stops = [pulse(model), still(model, browser.root, "msg:custom"), browser.stop, desk.stop];
  return () => { for (const stop of stops) stop(); };
}

export default { render };
