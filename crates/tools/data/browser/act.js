// Makes one numbered element ready for a person's input, or sets what input cannot set. Runs in the world where the
// outline was made. Gives JSON text: where to click, or what is wrong.
((number, action, text) => {
  const wrong = error => JSON.stringify({ error });
  const element = (globalThis.homarusElements ?? [])[number];
  if (!element || !element.isConnected) return wrong('gone');
  if (element.disabled) return wrong('disabled');
  if (globalThis.homarusCall(element) !== globalThis.homarusNames[number]) return wrong('changed');
  const view = element.ownerDocument.defaultView;
  const tell = () => {
    for (const kind of ['input', 'change']) element.dispatchEvent(new view.Event(kind, { bubbles: true }));
  };
  if (action === 'select') {
    if (element.tagName !== 'SELECT') return wrong('not a choice');
    const options = Array.from(element.options);
    const same = value => String(value).replace(/\s+/g, ' ').trim().toLowerCase() === text.trim().toLowerCase();
    const option = options.find(option => same(option.label)) ?? options.find(option => same(option.value));
    if (!option) return wrong('no such option');
    if (element.multiple) option.selected = true; else element.value = option.value, option.selected = true;
    tell();
    return JSON.stringify({ done: true });
  }
  element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
  if (action === 'type') {
    const kind = (element.type ?? '').toLowerCase();
    const typed = element.tagName === 'TEXTAREA' || element.isContentEditable
      || (element.tagName === 'INPUT' && ['text', 'search', 'email', 'url', 'tel', 'password', 'number', ''].includes(kind));
    if (kind === 'file') return wrong('file');
    if (element.readOnly) return wrong('read only');
    if (!typed && element.tagName !== 'INPUT') return wrong('not a field');
    if (!typed) {
      if (['checkbox', 'radio', 'submit', 'button', 'image', 'reset'].includes(kind)) return wrong('not a field');
      element.value = text;
      if (element.value === '' && text !== '') return wrong('not taken');
      tell();
      return JSON.stringify({ done: true });
    }
    element.focus();
    if (element.select) element.select();
    else view.getSelection().selectAllChildren(element);
    return JSON.stringify({ insert: true });
  }
  if (action === 'press') { element.focus(); return JSON.stringify({ done: true }); }
  const box = Array.from(element.getClientRects()).find(box => box.width > 0 && box.height > 0);
  if (!box) return wrong('not shown');
  let x = box.left + box.width / 2, y = box.top + box.height / 2;
  let hit = element.ownerDocument.elementFromPoint(x, y);
  while (hit?.shadowRoot) { const inner = hit.shadowRoot.elementFromPoint(x, y); if (!inner || inner === hit) break; hit = inner; }
  const isWithin = (inner, outer) => { for (let node = inner; node; node = node.parentNode ?? node.host) if (node === outer) return true; return false; };
  const ofLabel = Array.from(element.labels ?? []).some(label => isWithin(hit, label));
  if (!hit || !(isWithin(hit, element) || isWithin(element, hit) && hit.getClientRects().length === 0 || ofLabel)) return wrong('covered');
  for (let frame = view.frameElement; frame; frame = frame.ownerDocument.defaultView.frameElement) {
    const outer = frame.getBoundingClientRect();
    x += outer.left + frame.clientLeft; y += outer.top + frame.clientTop;
  }
  return JSON.stringify({ x, y });
})
