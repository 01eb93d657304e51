import { Notification } from '@jupyterlab/apputils';
import {
  BackendError,
  newerText,
  releasedText,
  remedyCode,
  UNDO_SECONDS,
  undoneText,
  unreleased,
  type IReleasable,
  type ITranslate,
  type PendingReleases
} from '../view';

/** Show an error of an action outside the panel; the panel shows its errors itself. */
export function reportError(error: unknown): void {
  const lines = [error instanceof Error ? error.message : String(error)];
  if (error instanceof BackendError) {
    lines.push(error.hint);
    lines.push(
      ...error.remedies.map(each => [each.purpose, remedyCode(each)].filter(Boolean).join(': '))
    );
  }
  Notification.error(lines.filter(Boolean).join('\n'), { autoClose: 8000 });
}

/** Release rows outside the panel: a notification offers an undo until the release is done. */
export function releaseRows(
  rows: readonly IReleasable[],
  holders: readonly string[],
  pending: PendingReleases,
  trans: ITranslate,
  done: () => void
): void {
  const undo = pending.add(rows, {
    started: () => Notification.dismiss(id),
    done: released => {
      const rest = unreleased(rows, released);
      if (rest.length) {
        reportError(new Error(newerText(rest, trans)));
      }
      done();
    },
    failed: reportError
  });
  const held = trans.__(
    'Still held by %1: the memory is freed when they let go.',
    holders.join(', ')
  );
  const text = releasedText(rows, trans);
  const id = Notification.info(holders.length ? `${text}\n${held}` : text, {
    autoClose: UNDO_SECONDS * 1000,
    actions: [
      {
        label: trans.__('Undo'),
        callback: () => {
          undo();
          Notification.info(undoneText(rows, trans), { autoClose: 4000 });
        }
      }
    ]
  });
}
