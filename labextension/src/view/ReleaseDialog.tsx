import * as React from 'react';
import { useSurroundings } from './context';
import { Dialog } from './Dialog';
import { sizeText } from './text';
import { undoSeconds, type IRow, type ITranslate } from './types';
import { labelsOf } from './words';

/** What a release comes to, before it is done. */
export function consequences(row: IRow, trans: ITranslate): string[] {
  const labels = labelsOf([...row.holders, ...row.older.flatMap(old => old.holders)], trans);
  const size = sizeText(row.nbytes);
  const undo = trans.__('You can undo this for %1 seconds.', undoSeconds);
  const lines = labels.length
    ? [
        trans._n(
          'Used by %2, who keeps it: the memory (%3) goes when it is let go of there.',
          'Used by %2, who keep it: the memory (%3) goes when the last of them lets go.',
          labels.length,
          labels.join(', '),
          size
        )
      ]
    : [undo, trans.__('Nobody holds it: the memory (%1) goes for good then.', size)];
  if (row.onlyCopy) {
    lines.push(trans.__('This is the only copy: the data will be lost.'));
  }
  if (row.writable && labels.length) {
    lines.push(trans.__('It is LIVE: those who hold it go on sharing what they write.'));
  }
  return labels.length ? [...lines, undo] : lines;
}

export function ReleaseDialog(props: {
  row: IRow;
  /** Whether there is a newer version than when the question came up. */
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
