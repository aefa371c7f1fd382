// Resolves when the page has not changed for a moment, or after a while in any case.
new Promise(resolve => {
  const QUIET_MS = 150, LONGEST_MS = 2000;
  const done = () => { observer.disconnect(); resolve(true); };
  let timer = setTimeout(done, QUIET_MS);
  const observer = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, QUIET_MS); });
  observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  setTimeout(done, LONGEST_MS);
})
