import { Notification } from '@jupyterlab/apputils';
import { BackendError, sizeText, undoSeconds } from '../view';
import type { IBackend, IReleased, ITranslate } from '../view';

/** Show why something failed that was not asked for in the panel, which shows its failures itself. */
export function reportError(error: unknown): void {
  const remedy = error instanceof BackendError ? error.remedy : '';
  const message = error instanceof Error ? error.message : String(error);
  Notification.error([message, remedy].filter(Boolean).join('\n'), { autoClose: 8000 });
}

/** Release names from outside of the panel: say what it came to, and offer to take it back. */
export async function releaseAndTell(
  names: string[],
  backend: Pick<IBackend, 'release' | 'restore'>,
  trans: ITranslate
): Promise<void> {
  try {
    const released = await backend.release(names);
    const undoable = released.filter(one => one.undoable).map(({ name }) => name);
    const undo = {
      label: trans.__('Undo'),
      callback: () => void backend.restore(undoable).catch(reportError)
    };
    Notification.info(releasedText(released, trans), {
      autoClose: undoSeconds * 1000,
      actions: undoable.length > 0 ? [undo] : []
    });
  } catch (error) {
    reportError(error);
  }
}

function releasedText(released: IReleased[], trans: ITranslate): string {
  const size = sizeText(released.reduce((sum, { nbytes }) => sum + nbytes, 0));
  const holders = [...new Set(released.flatMap(({ heldBy }) => heldBy))];
  const what =
    released.length === 1
      ? trans.__('%1 released · %2', released[0].name, size)
      : trans._n('%1 name released · %2', '%1 names released · %2', released.length, size);
  return holders.length === 0
    ? what
    : `${what}\n${trans.__('Still held by %1: its memory goes when they let go.', holders.join(', '))}`;
}
