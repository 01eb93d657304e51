import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';
import { sizeText } from './text';
import type { ISummary, ITranslate } from './types';

interface IPart {
  id: 'in-use' | 'old' | 'unnamed' | 'idle' | 'spares' | 'free' | 'elsewhere';
  nbytes: number;
  label: string;
}

function partsOf(summary: ISummary, trans: ITranslate): IPart[] {
  const elsewhere = summary.capacity - summary.used - summary.spares - summary.free;
  return [
    { id: 'in-use', nbytes: summary.inUse, label: trans.__('in use') },
    { id: 'old', nbytes: summary.old, label: trans.__('old versions') },
    { id: 'unnamed', nbytes: summary.unnamed, label: trans.__('without a name') },
    { id: 'idle', nbytes: summary.idle, label: trans.__('not in use') },
    { id: 'spares', nbytes: summary.spares, label: trans.__('in spares') },
    { id: 'free', nbytes: summary.free, label: trans.__('free') },
    { id: 'elsewhere', nbytes: elsewhere, label: trans.__('used by others') }
  ];
}

/** How full shared memory is, and what uses it. */
export function Capacity({ summary }: { summary: ISummary }): React.JSX.Element {
  const { trans } = useSurroundings();
  const parts = partsOf(summary, trans).filter(part => part.nbytes > 0);
  const words = parts.map(part => `${sizeText(part.nbytes)} ${part.label}`);
  if (summary.expired) {
    words.push(trans.__('%1 expired, freed soon', sizeText(summary.expired)));
  }
  const hints = [...words];
  if (summary.spares) {
    hints.push(
      trans.__(
        'Kernels keep spares to publish the next versions of their names faster. They give them back when memory is needed, or after a minute without use. JSHM_SPARES limits them.'
      )
    );
  }
  const used = [
    trans.__('%1 used', sizeText(summary.used)),
    trans.__('%1 free', sizeText(summary.free)),
    summary.spares ? trans.__('%1 in spares', sizeText(summary.spares)) : '',
    summary.overflow ? trans.__('%1 on disk', sizeText(summary.overflow)) : ''
  ];
  return (
    <div className="jshm-capacity" title={hints.join('\n')}>
      <div
        className="jshm-bar"
        role="img"
        aria-label={trans.__('Shared memory: %1', words.join(', '))}
      >
        {parts.map(part => (
          <span
            key={part.id}
            className={`jshm-part jshm-${part.id}`}
            style={{ flexGrow: part.nbytes }}
          />
        ))}
      </div>
      <p className="jshm-used">{used.filter(Boolean).join(' · ')}</p>
    </div>
  );
}

/** Memory that is perhaps not needed any more. */
export function Idle({
  summary,
  onReview
}: {
  summary: ISummary;
  onReview(): void;
}): React.JSX.Element | null {
  const { trans } = useSurroundings();
  const lines: [number, string][] = [
    [summary.old, trans.__('Old versions: %1', sizeText(summary.old))],
    [summary.unnamed, trans.__('Without a name: %1', sizeText(summary.unnamed))]
  ];
  const known = lines.filter(([nbytes]) => nbytes > 0);
  if (!summary.idleNames && !known.length) {
    return null;
  }
  return (
    <div className="jshm-idle-lines">
      {known.map(([, text]) => (
        <p key={text}>
          <span className="jshm-swatch jshm-old" aria-hidden="true" />
          {text}
        </p>
      ))}
      {summary.idleNames > 0 && (
        <p>
          <span className="jshm-swatch jshm-idle" aria-hidden="true" />
          {trans.__('Not in use: %1 · %2', summary.idleNames, sizeText(summary.idle))}
          <Button className="jshm-link" onClick={onReview}>
            {trans.__('Review…')}
          </Button>
        </p>
      )}
    </div>
  );
}
