import type { ICodeCell } from '@jupyterlab/nbformat';
import { MimeData } from '@lumino/coreutils';
import { Drag } from '@lumino/dragdrop';

/** Under which notebooks take cells that are dropped on them. */
const CELLS_MIME = 'application/vnd.jupyter.cells';

/** Pixels; as for Lab's own cells. */
const THRESHOLD = 5;

/** What a drop gets: a cell where cells are taken, and text elsewhere. */
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

/** Looks like a cell that is dragged within Lab. */
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

/** Call `moved` when the mouse, pressed at `pressed`, has moved so far that no click is meant. */
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
  // Else all of the page between would be selected.
  document.addEventListener('selectstart', event => event.preventDefault(), options);
  for (const end of ['pointerup', 'pointercancel']) {
    document.addEventListener(end, () => listening.abort(), options);
  }
}

/** Drag code from where the mouse was pressed into a notebook or an editor. */
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
