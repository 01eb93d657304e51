import { NotebookActions, type INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { Signal, type ISignal } from '@lumino/signaling';
import { BackendError, type ITranslate } from '../view';

/** Inserts code into the notebook that was used last. It never runs the code. */
export class NotebookInserter {
  constructor(tracker: INotebookTracker, activate: (id: string) => void, trans: ITranslate) {
    this._tracker = tracker;
    this._activate = activate;
    this._trans = trans;
    tracker.currentChanged.connect(this._onCurrent, this);
    this._onCurrent();
  }

  /** Another notebook became the target, none is open now, or the target was renamed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The name of the notebook; null if none is open. */
  get target(): string | null {
    return this._tracker.currentWidget?.title.label ?? null;
  }

  /** Insert code into the active cell if that is empty, else into a new cell below. */
  async insert(code: string): Promise<void> {
    const panel = this._tracker.currentWidget;
    await panel?.context.ready;
    const model = panel?.content.model;
    if (!panel || !model) {
      throw new BackendError(
        'refused',
        this._trans.__('No notebook is open.'),
        this._trans.__('Open one, and insert again.')
      );
    }
    const notebook = panel.content;
    const active = notebook.activeCell?.model;
    if (active?.type === 'code' && active.sharedModel.getSource().trim() === '') {
      active.sharedModel.setSource(code);
    } else {
      const index = notebook.activeCell ? notebook.activeCellIndex + 1 : 0;
      model.sharedModel.insertCell(index, {
        cell_type: 'code',
        source: code,
        metadata: { trusted: true }
      });
      notebook.activeCellIndex = index;
      notebook.deselectAll();
    }
    this._activate(panel.id);
    await NotebookActions.focusActiveCell(notebook);
  }

  private _onCurrent(): void {
    this._current?.title.changed.disconnect(this._onTitle, this);
    this._current = this._tracker.currentWidget;
    this._current?.title.changed.connect(this._onTitle, this);
    this._changed.emit();
  }

  private _onTitle(): void {
    this._changed.emit();
  }

  private readonly _tracker: INotebookTracker;
  private readonly _activate: (id: string) => void;
  private readonly _trans: ITranslate;
  private readonly _changed = new Signal<this, void>(this);
  private _current: NotebookPanel | null = null;
}
