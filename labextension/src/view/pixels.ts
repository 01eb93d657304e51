/** Converts the bytes of a preview to the pixels of a canvas. */
import type { Preview } from './types';

/** The server never sends a picture with more pixels than this. */
const MOST_PIXELS = 1 << 20;
export const NAN_BYTE = 255;
const LAST_VALUE = 254;

/** Matplotlib's viridis: its steps look equal, also to people who see few colors. */
const VIRIDIS: readonly [number, number, number][] = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 73, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [110, 206, 88],
  [181, 222, 43],
  [253, 231, 37]
];

/** Red, green and blue for a value from 0 to 254. */
export function colourOf(value: number): [number, number, number] {
  const place = (Math.min(value, LAST_VALUE) / LAST_VALUE) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const part = place - below;
  const mix = (channel: 0 | 1 | 2) =>
    Math.round(VIRIDIS[below][channel] * (1 - part) + VIRIDIS[below + 1][channel] * part);
  return [mix(0), mix(1), mix(2)];
}

/** The bytes of base64; null if it is not base64, or has another number of bytes. */
export function decode(data: string, length: number): Uint8Array | null {
  try {
    const text = atob(data);
    return text.length === length ? Uint8Array.from(text, c => c.charCodeAt(0)) : null;
  } catch {
    return null;
  }
}

export interface IPixels {
  width: number;
  height: number;
  rgba: Uint8ClampedArray<ArrayBuffer>;
}

type Picture = Extract<Preview, { type: 'heatmap' | 'image' }>;

/** The pixels of a preview; null if they cannot be shown. */
export function pixelsOf(picture: Picture): IPixels | null {
  const { width, height } = picture;
  const possible = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  if (!possible || width * height > MOST_PIXELS || typeof picture.data !== 'string') {
    return null;
  }
  const channels = picture.type === 'image' ? 4 : 1;
  const bytes = decode(picture.data, width * height * channels);
  if (!bytes) {
    return null;
  }
  if (picture.type === 'image') {
    return { width, height, rgba: new Uint8ClampedArray(bytes) };
  }
  const rgba = new Uint8ClampedArray(width * height * 4);
  bytes.forEach((value, i) => {
    // NaN is transparent: the hatch behind the canvas shows through.
    if (value !== NAN_BYTE) {
      rgba.set(colourOf(value), i * 4);
      rgba[i * 4 + 3] = 255;
    }
  });
  return { width, height, rgba };
}
