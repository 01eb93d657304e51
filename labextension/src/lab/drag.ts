import type { ICodeCell } from '@jupyterlab/nbformat';
import { MimeData } from '@lumino/coreutils';
import { Drag } from '@lumino/dragdrop';

/** The MIME type of cells that are dropped on a notebook. */
const CELLS_MIME = 'application/vnd.jupyter.cells';

/** Pixels, as for Lab's own cells. */
const THRESHOLD = 5;

/** The data of a drop: a cell for notebooks, and text for other targets. */
export function dragData(code: string): MimeData {
  const cell: ICodeCell = {
    cell_type: 'code',
    source: code,
    metadata: {},
    outputs: [],
    execution_count: null
  };
  const data = new MimeData();
  data.setData(CELLS_MIME, [cell]);
  data.setData('text/plain', code);
  return data;
}

/** An image like that of a cell that is dragged in Lab. */
function dragImage(code: string): HTMLElement {
  const image = document.createElement('div');
  image.className = 'jp-dragImage jp-dragImage-singlePrompt';
  for (const [part, text] of [
    ['prompt', '[ ]:'],
    ['content', code.slice(code.lastIndexOf('\n') + 1)]
  ]) {
    const span = image.appendChild(document.createElement('span'));
    span.className = `jp-dragImage-${part}`;
    span.textContent = text;
  }
  return image;
}

/** Call `moved` when the mouse has moved too far from `pressed` for a click. */
export function onceMoved(pressed: MouseEvent, moved: (event: MouseEvent) => void): void {
  const listening = new AbortController();
  let waits = true;
  const options = { capture: true, signal: listening.signal };
  const far = (event: MouseEvent) =>
    Math.abs(event.clientX - pressed.clientX) >= THRESHOLD ||
    Math.abs(event.clientY - pressed.clientY) >= THRESHOLD;
  document.addEventListener(
    'pointermove',
    event => {
      if (waits && far(event)) {
        waits = false;
        moved(event);
      }
    },
    options
  );
  // Without this, the drag would select text of the page.
  document.addEventListener('selectstart', event => event.preventDefault(), options);
  for (const end of ['pointerup', 'pointercancel']) {
    document.addEventListener(end, () => listening.abort(), options);
  }
}

/** Drag code into a notebook or an editor. */
export function dragCode(code: string, pressed: MouseEvent): void {
  onceMoved(pressed, event => {
    const drag = new Drag({
      mimeData: dragData(code),
      dragImage: dragImage(code),
      supportedActions: 'copy',
      proposedAction: 'copy'
    });
    void drag.start(event.clientX, event.clientY).then(() => drag.dispose());
  });
}
