// Reads a page as text with its interactive elements numbered. Runs in a world of its own: the page's programs see
// neither this nor what it keeps. Gives JSON text.
(() => {
  const CHARS_MAX = 400000, NODES_MAX = 80000, ELEMENTS_MAX = 2000, NAME_MAX = 160, OPTIONS_MAX = 30;
  const kept = (globalThis.homarusElements = [null]);
  const named = [];
  globalThis.homarusNames = [];
  // Pieces, and of their text only the end: looking at all of it again for each piece takes minutes.
  const pieces = [];
  let size = 0, last = '\n', nodes = 0, isCut = false;
  const squeeze = text => String(text ?? '').replace(/\s+/g, ' ').trim();
  const short = text => { text = squeeze(text); return text.length > NAME_MAX ? text.slice(0, NAME_MAX) + '…' : text; };
  const quoted = text => JSON.stringify(short(text));
  const add = text => { if (text !== '') { pieces.push(text); size += text.length; last = text[text.length - 1]; } };
  const isSpaced = () => last === ' ' || last === '\n';
  const endLine = () => { if (last !== '\n') add('\n'); };
  const put = text => {
    if (size > CHARS_MAX) { isCut = true; return; }
    add(isSpaced() ? text.trimStart() : text);
  };
  const BLOCKS = new Set('ADDRESS ARTICLE ASIDE BLOCKQUOTE BODY CAPTION DD DETAILS DIALOG DIV DL DT FIELDSET FIGCAPTION FIGURE FOOTER FORM H1 H2 H3 H4 H5 H6 HEADER HR LI MAIN NAV OL P PRE SECTION SUMMARY TABLE TBODY TFOOT THEAD TR UL LEGEND'.split(' '));
  const SKIPPED = new Set('SCRIPT STYLE NOSCRIPT TEMPLATE HEAD META LINK TITLE OBJECT EMBED AUDIO VIDEO CANVAS SVG'.split(' '));
  const ROLES = new Set('button link checkbox radio switch tab menuitem menuitemcheckbox menuitemradio option combobox textbox searchbox slider spinbutton treeitem'.split(' '));
  const SECRET = /(^|\s)(cc-|current-password|new-password|one-time-code)/;

  const isShown = (element, style) => {
    if (style.display === 'contents') return true;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return false;
    return parseFloat(style.fontSize) > 0;
  };
  // The words of a label, without those of the field in it.
  const own = node => node.nodeType === Node.TEXT_NODE ? node.data
    : ['SELECT', 'TEXTAREA', 'BUTTON', 'SCRIPT', 'STYLE'].includes(node.tagName) ? '' : Array.from(node.childNodes, own).join('');
  const nameOf = element => {
    const root = element.getRootNode();
    const by = (element.getAttribute('aria-labelledby') ?? '').split(/\s+/).filter(Boolean)
      .map(id => root.getElementById?.(id)?.textContent ?? '').join(' ');
    const labels = () => Array.from(element.labels ?? [], own).join(' ');
    const image = () => element.querySelector?.('img[alt]')?.getAttribute('alt');
    const isField = ['INPUT', 'TEXTAREA', 'SELECT'].includes(element.tagName);
    const choices = [() => element.getAttribute('aria-label'), () => by, () => isField ? labels() : element.innerText, () => element.getAttribute('placeholder'),
      image, () => element.getAttribute('title'), () => element.getAttribute('name')];
    for (const choice of choices) { const text = squeeze(choice()); if (text) return text; }
    return '';
  };
  const address = element => {
    try {
      const url = new URL(element.href, element.baseURI);
      if (url.protocol === 'javascript:') return '';
      return short(url.origin === location.origin ? url.pathname + url.search + url.hash : url.href);
    } catch { return ''; }
  };
  const describe = element => {
    const tag = element.tagName, role = (element.getAttribute('role') ?? '').toLowerCase();
    const off = element.disabled || element.getAttribute('aria-disabled') === 'true' ? ' disabled' : '';
    const kind = (element.type ?? '').toLowerCase();
    if (tag === 'INPUT') {
      if (kind === 'hidden') return null;
      if (['submit', 'button', 'reset', 'image'].includes(kind)) {
        const name = element.getAttribute('aria-label') || element.value || element.alt || kind;
        return { role: 'button', name, more: off };
      }
      if (kind === 'checkbox' || kind === 'radio') return { role: kind, name: nameOf(element), more: (element.checked ? ' checked' : '') + off };
      const isSecret = kind === 'password' || SECRET.test(element.autocomplete ?? '');
      const shown = isSecret ? (element.value ? ' (filled)' : ' (empty)') : kind === 'file' ? '' : ' = ' + quoted(element.value);
      return { role: (kind || 'text') + ' field', name: nameOf(element), more: shown + off };
    }
    if (tag === 'TEXTAREA') return { role: 'text field', name: nameOf(element), more: ' = ' + quoted(element.value) + off };
    if (tag === 'SELECT') {
      const options = Array.from(element.options).slice(0, OPTIONS_MAX).map(option => quoted(option.label)).join(', ');
      const more = element.options.length > OPTIONS_MAX ? ', …' : '';
      const now = Array.from(element.selectedOptions, option => quoted(option.label)).join(' and ') || 'nothing';
      return { role: 'choice', name: nameOf(element), more: ` = ${now} of ${options}${more}${off}` };
    }
    if (tag === 'A' && element.hasAttribute('href')) { const to = address(element); return { role: 'link', name: nameOf(element), more: to ? ' to ' + to : '' }; }
    if (tag === 'BUTTON' || tag === 'SUMMARY') return { role: 'button', name: nameOf(element), more: off };
    if (element.isContentEditable && !element.parentElement?.isContentEditable) return { role: 'text field', name: element.getAttribute('aria-label') ?? '', more: ' = ' + quoted(element.innerText) };
    if (ROLES.has(role)) {
      const state = element.getAttribute('aria-checked') === 'true' || element.getAttribute('aria-selected') === 'true' ? ' checked' : '';
      return { role, name: nameOf(element), more: state + off };
    }
    if (element.hasAttribute('onclick') && (element.innerText ?? '').length < NAME_MAX) return { role: 'clickable', name: nameOf(element), more: '' };
    return null;
  };
  // What an element is called, to see later whether it still is.
  const call = (globalThis.homarusCall = element => { const what = describe(element); return what && what.role + ' ' + short(what.name); });
  const walk = node => {
    if (isCut || ++nodes > NODES_MAX) { isCut = true; return; }
    if (node.nodeType === Node.TEXT_NODE) {
      const style = node.parentElement && getComputedStyle(node.parentElement);
      if (style && style.whiteSpace.startsWith('pre')) { if (size > CHARS_MAX) isCut = true; else add(node.data.slice(0, CHARS_MAX)); return; }
      put(node.data.slice(0, CHARS_MAX).replace(/\s+/g, ' '));
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE) { if (node.nodeType === Node.DOCUMENT_FRAGMENT_NODE) Array.from(node.childNodes).forEach(walk); return; }
    const tag = node.tagName.toUpperCase();
    if (SKIPPED.has(tag)) return;
    const style = getComputedStyle(node);
    if (tag === 'BR') { endLine(); return; }
    if (!isShown(node, style)) return;
    const isBlock = BLOCKS.has(tag) || style.display === 'block' || style.display === 'flex' || style.display === 'grid';
    if (isBlock) endLine();
    if (/^H[1-6]$/.test(tag)) put('#'.repeat(Number(tag[1])) + ' ');
    if (tag === 'LI') put('- ');
    if (tag === 'HR') put('---');
    if ((tag === 'TD' || tag === 'TH') && node.previousElementSibling) put(' | ');
    const what = describe(node);
    if (what) {
      if (kept.length > ELEMENTS_MAX) { isCut = true; return; }
      const number = kept.push(node) - 1;
      named.push({ number, role: what.role, name: short(what.name) });
      globalThis.homarusNames[number] = call(node);
      if (!isSpaced()) add(' ');
      put(`[${number}: ${what.role} ${quoted(what.name)}${what.more}] `);
    } else if (tag === 'IMG') {
      const alt = squeeze(node.getAttribute('alt'));
      if (alt) put(` (image: ${short(alt)}) `);
    } else if (tag === 'IFRAME' || tag === 'FRAME') {
      endLine();
      let inner = null;
      try { inner = node.contentDocument?.body; } catch { inner = null; }
      if (inner) { put('(frame:)\n'); walk(inner); endLine(); put('(end of the frame)'); }
      else put(`(a frame of ${short(node.src) || 'another site'}, not shown)`);
      endLine();
    } else {
      Array.from((node.shadowRoot ?? node).childNodes).forEach(walk);
      if (node.tagName === 'SLOT') node.assignedNodes().forEach(walk);
    }
    if (isBlock) endLine();
  };
  try { if (document.body) walk(document.body); } catch (error) { isCut = true; }
  const text = pieces.join('').replace(/[ \t]+\n/g, '\n').replace(/\n{3,}/g, '\n\n').trim();
  return JSON.stringify({ url: location.href, title: short(document.title), text, elements: named, is_cut: isCut });
})()
