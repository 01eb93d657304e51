/** Previews of every type, computed. */
import type { IRow, IStats, Preview } from '../view';

const stats: IStats = {
  min: -3.14159,
  max: 4.2,
  mean: 0.001234,
  nan: 12,
  count: 100_000,
  total: 1_000_000_000,
  exact: false
};

export function base64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}

function line(): Preview {
  const centre = Array.from({ length: 200 }, (_, i) => 3 * Math.exp(-i / 60) + Math.sin(i / 9) / 4);
  const gap = (i: number) => i > 120 && i < 126;
  return {
    type: 'line',
    low: centre.map((value, i) => (gap(i) ? null : value - 0.3)),
    high: centre.map((value, i) => (gap(i) ? null : value + 0.4)),
    histogram: {
      counts: Array.from({ length: 30 }, (_, i) =>
        Math.round(400 * Math.exp(-((i - 9) ** 2) / 40))
      ),
      low: -0.4,
      high: 3.4
    },
    stats
  };
}

function heatmap(): Preview {
  const width = 128;
  const height = 64;
  const data = new Uint8Array(width * height);
  data.forEach((_, i) => {
    const x = (i % width) / width;
    const y = Math.floor(i / width) / height;
    const value = (Math.sin(9 * x) * Math.cos(7 * y) + 1) / 2;
    data[i] = x > 0.7 && y > 0.7 ? 255 : Math.round(value * 254);
  });
  return { type: 'heatmap', width, height, data: base64(data), low: -1, high: 1, slice: '', stats };
}

function image(): Preview {
  const width = 128;
  const height = 96;
  const data = new Uint8Array(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    const x = i % width;
    const y = Math.floor(i / width);
    data.set([2 * x, 2 * y, 255 - x - y, 255], 4 * i);
  }
  return { type: 'image', width, height, data: base64(data), slice: '', stats: null };
}

/** Some preview of a row, as its kind and name suggest. */
export function previewOf(row: IRow): Preview {
  if (row.kind === 'table' || row.dtype === 'record') {
    return {
      type: 'table',
      columns: ['id', 'name', 'country', 'revenue', 'since', 'segment'],
      rows: Array.from({ length: 8 }, (_, i) => [
        String(1000 + i),
        `customer ${i}`,
        'CH',
        (123.4 * i).toFixed(2),
        '2024-05-01',
        'retail'
      ]),
      total: 1_204_511,
      stats: null
    };
  }
  if (row.summary.startsWith('function')) {
    return {
      type: 'source',
      text: 'def preprocess(df, *, scale):\n    """Scale the columns that need it."""\n    out = df.copy()\n    out[scale] /= out[scale].abs().max()\n    return out\n',
      truncated: false,
      stats: null
    };
  }
  if (row.kind === 'object') {
    return { type: 'none', text: 'There is no picture of a RandomForestRegressor.', stats: null };
  }
  if (row.dtype === 'uint8') {
    return image();
  }
  return row.shape.length === 1 ? line() : heatmap();
}
