import * as React from 'react';
import { Chart } from './Chart';
import { useSurroundings } from './context';
import { Picture } from './Picture';
import { countText, numberText } from './text';
import type { IStats, Preview } from './types';

type Table = Extract<Preview, { type: 'table' }>;
type Text = Extract<Preview, { type: 'source' | 'text' }>;

function FirstRows({ table }: { table: Table }): React.JSX.Element {
  const { trans } = useSurroundings();
  return (
    <div className="jshm-scroll" tabIndex={0} role="region" aria-label={trans.__('First rows')}>
      <table className="jshm-first-rows">
        <thead>
          <tr>
            {table.columns.map((column, i) => (
              <th key={i} scope="col">
                <bdi>{column}</bdi>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, i) => (
            <tr key={i}>
              {row.map((cell, j) => (
                <td key={j}>
                  <bdi>{cell}</bdi>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {table.total > table.rows.length && (
        <p className="jshm-caption">
          {trans.__('%1 of %2 rows', table.rows.length, countText(table.total))}
        </p>
      )}
    </div>
  );
}

function LongText({ preview }: { preview: Text }): React.JSX.Element {
  const { trans } = useSurroundings();
  const label = preview.type === 'source' ? trans.__('Source') : trans.__('Text');
  return (
    <pre className="jshm-scroll jshm-source" tabIndex={0} role="region" aria-label={label}>
      {preview.text}
      {preview.truncated && '\n…'}
    </pre>
  );
}

/** Minimum, maximum, mean, and numbers of missing values. */
export function Stats({ stats }: { stats: IStats }): React.JSX.Element {
  const { trans } = useSurroundings();
  const text = (value: number | null) => (value === null ? '–' : numberText(value));
  const parts: [string, string][] = [
    [trans.__('min'), text(stats.min)],
    [trans.__('max'), text(stats.max)],
    [trans.__('mean'), text(stats.mean)]
  ];
  if (stats.nan > 0) {
    parts.push([trans.__('NaN'), countText(stats.nan)]);
  }
  if (stats.infinite) {
    parts.push([trans.__('infinite'), countText(stats.infinite)]);
  }
  return (
    <p className="jshm-stats">
      {stats.of === 'magnitude' && <span>{trans.__('magnitude:')} </span>}
      {parts.map(([what, value]) => (
        <span key={what}>
          {what} <b>{value}</b>{' '}
        </span>
      ))}
      {!stats.exact && (
        <span
          className="jshm-weak"
          title={trans.__(
            '%1 of %2 values were looked at',
            countText(stats.count),
            countText(stats.total)
          )}
        >
          {trans.__('(sample)')}
        </span>
      )}
    </p>
  );
}

function Shown({ preview }: { preview: Preview }): React.JSX.Element {
  switch (preview.type) {
    case 'line':
      return <Chart line={preview} />;
    case 'heatmap':
    case 'image':
      return <Picture picture={preview} />;
    case 'table':
      return <FirstRows table={preview} />;
    case 'source':
    case 'text':
      return <LongText preview={preview} />;
    case 'none':
      return <p className="jshm-none">{preview.text}</p>;
  }
}

interface IBoundaryProps {
  fallback: React.ReactNode;
  children: React.ReactNode;
}

/** Keeps an error in a preview from removing the whole list. */
class Boundary extends React.Component<IBoundaryProps, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): React.ReactNode {
    return this.state.failed ? this.props.fallback : this.props.children;
  }
}

/** A preview of any type; null while it is loading. */
export function PreviewPane({ preview }: { preview: Preview | null }): React.JSX.Element {
  const { trans } = useSurroundings();
  if (!preview) {
    return <div className="jshm-preview jshm-pending" aria-busy="true" />;
  }
  const broken = <p className="jshm-none">{trans.__('This preview cannot be shown.')}</p>;
  return (
    <Boundary fallback={broken}>
      <div className={`jshm-preview jshm-preview-${preview.type}`}>
        <Shown preview={preview} />
      </div>
      {preview.stats && <Stats stats={preview.stats} />}
    </Boundary>
  );
}
