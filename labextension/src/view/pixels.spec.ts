import { describe, expect, it } from 'vitest';
import { base64 } from '../testing/previews';
import { colourOf, decode, NAN_BYTE, pixelsOf } from './pixels';

function heatmap(width: number, height: number, data: string) {
  return { type: 'heatmap', width, height, data, low: 0, high: 1, slice: '', stats: null } as const;
}

describe('pixelsOf', () => {
  it('colors values and leaves NaN transparent', () => {
    const pixels = pixelsOf(heatmap(3, 1, base64(Uint8Array.of(0, 254, NAN_BYTE))));
    expect([...(pixels?.rgba ?? [])]).toEqual([68, 1, 84, 255, 253, 231, 37, 255, 0, 0, 0, 0]);
  });

  it('keeps the pixels of an image', () => {
    const data = base64(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const picture = { type: 'image', width: 2, height: 1, data, slice: '', stats: null } as const;
    expect([...(pixelsOf(picture)?.rgba ?? [])]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it.each([
    ['too few bytes', heatmap(4, 4, base64(new Uint8Array(15)))],
    ['too many bytes', heatmap(4, 4, base64(new Uint8Array(17)))],
    ['no base64', heatmap(1, 1, '%%%')],
    ['no pixels', heatmap(0, 0, '')],
    ['half a pixel', heatmap(0.5, 2, base64(new Uint8Array(1)))],
    ['a negative size', heatmap(-1, -1, base64(new Uint8Array(1)))],
    ['a huge size', heatmap(1e6, 1e6, '')],
    ['no number', heatmap(NaN, 1, '')],
    ['no data', heatmap(1, 1, null as unknown as string)]
  ])('shows nothing of %s', (_, picture) => {
    expect(pixelsOf(picture)).toBeNull();
  });
});

describe('colourOf', () => {
  it('gets brighter with the value', () => {
    const luminance = ([r, g, b]: number[]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
    for (let value = 0; value < 254; value += 2) {
      expect(luminance(colourOf(value + 2))).toBeGreaterThan(luminance(colourOf(value)));
    }
  });
});

describe('decode', () => {
  it('needs the right length', () => {
    expect(decode('AAEC', 3)).toEqual(Uint8Array.of(0, 1, 2));
    expect(decode('AAEC', 2)).toBeNull();
  });
});
