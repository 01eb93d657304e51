import * as React from 'react';
import { useSurroundings } from './context';
import { Dialog } from './Dialog';
import { sizeText } from './text';
import { UNDO_SECONDS } from './pending';
import type { IRow, ITranslate } from './types';
import { holdersOf, labelsOf } from './words';

/** What a release will do, line by line. */
export function consequences(row: IRow, trans: ITranslate): string[] {
  const labels = labelsOf(holdersOf(row), trans);
  const size = sizeText(row.nbytes);
  const undo = trans.__('You can undo this for %1 seconds.', UNDO_SECONDS);
  const lines = labels.length
    ? [
        trans._n(
          '%2 uses it and keeps it. The memory (%3) is freed when it lets go.',
          '%2 use it and keep it. The memory (%3) is freed when the last of them lets go.',
          labels.length,
          labels.join(', '),
          size
        )
      ]
    : [undo, trans.__('Nobody holds it: after that the memory (%1) is freed for good.', size)];
  if (row.onlyCopy) {
    lines.push(trans.__('This is the only copy: the data will be lost.'));
  }
  if (row.writable && labels.length) {
    lines.push(trans.__('It is LIVE: its holders still share what they write.'));
  }
  return labels.length ? [...lines, undo] : lines;
}

export function ReleaseDialog(props: {
  row: IRow;
  /** Whether there is a newer version than when the dialog was opened. */
  isNewer: boolean;
  onAccept(): void;
  onClose(): void;
}): React.JSX.Element {
  const { row, isNewer, onAccept, onClose } = props;
  const { trans } = useSurroundings();
  return (
    <Dialog
      title={trans.__('Release “%1”?', row.name)}
      accept={trans.__('Release')}
      onAccept={onAccept}
      onClose={onClose}
    >
      {isNewer && (
        <p role="alert">
          <b>{trans.__('There is a new version now: v%1.', row.version)}</b>
        </p>
      )}
      {consequences(row, trans).map(line => (
        <p key={line}>{line}</p>
      ))}
    </Dialog>
  );
}
