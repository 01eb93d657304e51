import { cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { describe, expect, it, vi } from 'vitest';
import { base64 } from '../testing/previews';
import { bands, rangeOf } from './Chart';
import { splitName } from './Name';
import { PreviewPane } from './PreviewPane';
import type { IStats, Preview } from './types';

const STATS: IStats = {
  min: -1,
  max: 2.5,
  mean: null,
  nan: 3,
  count: 1000,
  total: 1_000_000,
  exact: false
};

function line(values: (number | null)[]): Preview {
  const histogram = { counts: [1, 2, 0], low: 0, high: 9 };
  return { type: 'line', low: values, high: values, histogram, stats: null };
}

describe('PreviewPane', () => {
  it('is busy while it loads', () => {
    const { container } = render(<PreviewPane preview={null} />);
    expect(container.querySelector('[aria-busy="true"]')).toBeTruthy();
  });

  it('says what the statistics are about', () => {
    const { rerender } = render(<PreviewPane preview={{ ...line([1]), stats: STATS }} />);
    expect(document.querySelector('.jshm-stats')?.textContent).toBe(
      'min -1 max 2.5 mean – NaN 3 (sample)'
    );
    const exact: IStats = { ...STATS, exact: true, nan: 0, infinite: 2, of: 'magnitude' };
    rerender(<PreviewPane preview={{ ...line([1]), stats: exact }} />);
    expect(document.querySelector('.jshm-stats')?.textContent?.trim()).toBe(
      'magnitude: min -1 max 2.5 mean – infinite 2'
    );
  });

  it('draws a line, or its histogram', () => {
    render(<PreviewPane preview={line([0, 4, null, 2])} />);
    expect(screen.getByRole('img', { name: 'Values along the array, from 0 to 4' })).toBeTruthy();
    fireEvent.click(screen.getByText('Show histogram'));
    expect(screen.getByRole('img', { name: 'Histogram of values from 0 to 9' })).toBeTruthy();
    expect(document.querySelectorAll('rect').length).toBe(3);
  });

  it('shows the first rows and the number of all rows', () => {
    const preview: Preview = {
      type: 'table',
      columns: ['id', '<b>x</b>'],
      rows: [['1', '<i>']],
      total: 5000,
      stats: null
    };
    render(<PreviewPane preview={preview} />);
    expect(screen.getByRole('columnheader', { name: '<b>x</b>' })).toBeTruthy();
    expect(screen.getByText('1 of 5,000 rows')).toBeTruthy();
  });

  it('marks truncated text', () => {
    const preview: Preview = { type: 'source', text: 'def f():', truncated: true, stats: null };
    render(<PreviewPane preview={preview} />);
    expect(screen.getByRole('region', { name: 'Source' }).textContent).toBe('def f():\n…');
  });

  it.each<[string, Preview]>([
    ['no numbers', line([null, NaN])],
    ['an empty line', line([])],
    ['infinite numbers', line([Infinity, -Infinity])],
    [
      'a damaged picture',
      {
        type: 'image',
        width: 9,
        height: 9,
        data: base64(new Uint8Array(3)),
        slice: '',
        stats: null
      }
    ],
    ['a reason', { type: 'none', text: 'It is too strange.', stats: null }]
  ])('says that there is nothing to see of %s', (_, preview) => {
    const { container } = render(<PreviewPane preview={preview} />);
    expect(container.querySelector('.jshm-none')?.textContent).toMatch(/\.$/);
  });

  it('survives an invalid preview', () => {
    const silent = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    for (const broken of [
      { type: 'table', stats: null },
      { type: 'line', low: 3, stats: null }
    ]) {
      render(<PreviewPane preview={broken as unknown as Preview} />);
      expect(screen.getByText('This preview cannot be shown.')).toBeTruthy();
      cleanup();
    }
    silent.mockRestore();
  });
});

describe('Chart', () => {
  it('finds the range of finite numbers', () => {
    expect(rangeOf([null, 3, NaN, -1, Infinity])).toEqual([-1, 3]);
    expect(rangeOf([])).toBeNull();
  });

  it('has a band for each stretch without gaps, inside the picture', () => {
    const values = [1, 2, null, 3, null, 1e308, -1e308];
    const paths = bands(values, values);
    expect(paths.length).toBe(3);
    for (const number of paths.join(' ').match(/-?\d+\.\d+/g) ?? []) {
      expect(Number(number)).toBeGreaterThanOrEqual(0);
      expect(Number(number)).toBeLessThanOrEqual(300);
    }
    expect(paths.join()).not.toMatch(/NaN|Infinity/);
  });

  it('is flat for one value', () => {
    expect(bands([5], [5])).toEqual(['M150.0,48.0L150.0,48.0Z']);
  });
});

describe('splitName', () => {
  it('keeps the end of long names together, and short ones whole', () => {
    expect(splitName('X_train')).toEqual(['X_train', '']);
    expect(splitName('experiment/weights_final')).toEqual(['experiment/weigh', 'ts_final']);
  });

  it('splits neither characters nor right-to-left text', () => {
    const [head, tail] = splitName('😀'.repeat(30));
    expect(head + tail).toBe('😀'.repeat(30));
    expect(tail).toBe('😀'.repeat(8));
    expect(splitName(`${'e\u0301'.repeat(9)}abcdefg`)[1].startsWith('\u0301')).toBe(false);
    expect(splitName('ש'.repeat(30))[1]).toBe('');
    expect(splitName(`${'a'.repeat(30)}\u202e`)[1]).toBe('');
  });
});
