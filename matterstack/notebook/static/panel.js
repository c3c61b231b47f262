// @ts-check
// What a panel is filled with, and where its words lead. Its text is Python's, and escaped there.

/**
 * Fill a panel. While it is about the same as before, what one has opened, scrolled or focused in it stays so; an output
 * that was at its end stays there, since what is new is at the end.
 * @param {HTMLElement} panel
 * @param {HTMLElement} told the element in it that holds the text
 * @param {string} about
 * @param {string} html
 * @param {HTMLElement | SVGElement} otherwise what has the focus where the element that had it is gone
 */
function fillPanel(panel, told, about, html, otherwise) {
  const same = told.dataset.about === about, at = panel.scrollTop;
  if (same && told.dataset.html === html) return;
  const parts = () => /** @type {HTMLDetailsElement[]} */ ([...told.querySelectorAll("details")]);
  const outputs = () => /** @type {HTMLElement[]} */ ([...told.querySelectorAll(".ms-output")]);
  const open = parts().map((part) => part.open);
  const places = outputs().map((text) => (text.scrollTop + text.clientHeight >= text.scrollHeight - 4 ? -1 : text.scrollTop));
  keepFocus(told, () => { told.innerHTML = told.dataset.html = html; }, otherwise);
  told.dataset.about = about;
  reachable(told);
  outputs().forEach((text, place) => {
    const was = same ? places[place] ?? -1 : -1;
    text.scrollTop = was < 0 ? text.scrollHeight : was;
  });
  if (same) parts().forEach((part, place) => { part.open = open[place] ?? part.open; });
  panel.scrollTop = same ? at : 0;
}

/**
 * Have the words of a panel lead on: to other tasks, to logs and files, to a structure that is turned. Returns what stops that.
 * @param {any} model
 * @param {HTMLElement} root
 * @param {HTMLElement} told
 * @param {(name: string) => void} go shows the task of a name
 */
function leadsOn(model, root, told, go) {
  links(told, go);
  opensStructure(model, root, told);
  return opensBrowser(model, root, told);
}
