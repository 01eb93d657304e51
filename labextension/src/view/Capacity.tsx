import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';
import { sizeText } from './text';
import type { ISummary, ITranslate } from './types';

interface IPart {
  id: 'in-use' | 'old' | 'unnamed' | 'restorable' | 'idle' | 'spares' | 'free' | 'elsewhere';
  nbytes: number;
  label: string;
}

function partsOf(summary: ISummary, trans: ITranslate): IPart[] {
  const elsewhere = summary.capacity - summary.used - summary.spares - summary.free;
  return [
    { id: 'in-use', nbytes: summary.inUse, label: trans.__('in use') },
    { id: 'old', nbytes: summary.old, label: trans.__('old versions') },
    { id: 'unnamed', nbytes: summary.unnamed, label: trans.__('without a name') },
    { id: 'restorable', nbytes: summary.restorable, label: trans.__('just released') },
    { id: 'idle', nbytes: summary.idle, label: trans.__('not in use') },
    { id: 'spares', nbytes: summary.spares, label: trans.__('in spares') },
    { id: 'free', nbytes: summary.free, label: trans.__('free') },
    { id: 'elsewhere', nbytes: elsewhere, label: trans.__('used by others') }
  ];
}

/** How full shared memory is, and of what. */
export function Capacity({ summary }: { summary: ISummary }): React.JSX.Element {
  const { trans } = useSurroundings();
  const parts = partsOf(summary, trans).filter(part => part.nbytes > 0);
  const words = parts.map(part => `${sizeText(part.nbytes)} ${part.label}`);
  if (summary.leftovers) {
    words.push(trans.__('%1 leftover, freed soon', sizeText(summary.leftovers)));
  }
  const hints = [...words];
  if (summary.spares) {
    hints.push(
      trans.__(
        'Spares are memory that kernels keep for the next version of what they publish: it is copied several times as fast there. They give it back after a minute of rest, and wherever memory is needed. JSHM_SPARES says how much each may keep.'
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

/** What takes memory that nobody needs any more, perhaps. */
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
