/** One-dimensional numbers as SVG: their envelope or their histogram. */
import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';
import { numberText } from './text';
import type { Preview } from './types';

type Line = Extract<Preview, { type: 'line' }>;
type Values = readonly (number | null)[];

const WIDTH = 300;
const HEIGHT = 96;
const MARGIN = 4;

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** The lowest and the highest number; null if there are no numbers. */
export function rangeOf(values: Values): [number, number] | null {
  let range: [number, number] | null = null;
  for (const value of values) {
    if (isNumber(value)) {
      range = range ? [Math.min(range[0], value), Math.max(range[1], value)] : [value, value];
    }
  }
  return range;
}

/** The stretches between gaps, each as the outline of its band. */
export function bands(low: Values, high: Values): string[] {
  const range = rangeOf([...low, ...high]);
  if (!range) {
    return [];
  }
  const [least, most] = range;
  const n = Math.min(low.length, high.length);
  const x = (i: number) => (n > 1 ? (i * WIDTH) / (n - 1) : WIDTH / 2).toFixed(1);
  const y = (value: number) => {
    // Halves, because the difference of two huge numbers may be infinite.
    const part = most > least ? (value / 2 - least / 2) / (most / 2 - least / 2) : 0.5;
    return (HEIGHT - MARGIN - part * (HEIGHT - 2 * MARGIN)).toFixed(1);
  };
  const paths: string[] = [];
  let upper: string[] = [];
  let lower: string[] = [];
  for (let i = 0; i <= n; i++) {
    const bottom = low[i];
    const top = high[i];
    if (i < n && isNumber(bottom) && isNumber(top)) {
      upper.push(`${x(i)},${y(top)}`);
      lower.unshift(`${x(i)},${y(bottom)}`);
    } else if (upper.length) {
      paths.push(`M${[...upper, ...lower].join('L')}Z`);
      upper = [];
      lower = [];
    }
  }
  return paths;
}

function Plot(props: { label: string; children: React.ReactNode }): React.JSX.Element {
  return (
    <svg
      className="jshm-chart"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={props.label}
    >
      {props.children}
    </svg>
  );
}

function Envelope({ line, label }: { line: Line; label: string }): React.JSX.Element {
  const paths = React.useMemo(() => bands(line.low, line.high), [line]);
  return (
    <Plot label={label}>
      {paths.map((path, i) => (
        <path key={i} d={path} />
      ))}
    </Plot>
  );
}

function Histogram({ counts, label }: { counts: number[]; label: string }): React.JSX.Element {
  const most = Math.max(1, ...counts);
  const step = WIDTH / Math.max(1, counts.length);
  return (
    <Plot label={label}>
      {counts.map((count, i) => {
        const height = (count / most) * (HEIGHT - MARGIN);
        return (
          <rect
            key={i}
            x={i * step}
            y={HEIGHT - height}
            width={Math.max(0.5, step - 0.5)}
            height={height}
          />
        );
      })}
    </Plot>
  );
}

export function Chart({ line }: { line: Line }): React.JSX.Element {
  const { trans } = useSurroundings();
  const [asHistogram, setAsHistogram] = React.useState(false);
  const { histogram } = line;
  const range =
    asHistogram && histogram
      ? ([histogram.low, histogram.high] as const)
      : rangeOf([...line.low, ...line.high]);
  if (!range) {
    return <p className="jshm-none">{trans.__('There are no numbers to draw.')}</p>;
  }
  const [low, high] = range.map(numberText);
  return (
    <figure className="jshm-figure">
      {asHistogram && histogram ? (
        <Histogram
          counts={histogram.counts}
          label={trans.__('Histogram of values from %1 to %2', low, high)}
        />
      ) : (
        <Envelope
          line={line}
          label={trans.__('Values along the array, from %1 to %2', low, high)}
        />
      )}
      <figcaption className="jshm-caption">
        <span>
          {asHistogram ? trans.__('%1 … %2', low, high) : trans.__('%1 to %2', low, high)}
        </span>
        {histogram && (
          <Button
            className="jshm-link"
            aria-pressed={asHistogram}
            onClick={() => setAsHistogram(!asHistogram)}
          >
            {asHistogram ? trans.__('Show values') : trans.__('Show histogram')}
          </Button>
        )}
      </figcaption>
    </figure>
  );
}
