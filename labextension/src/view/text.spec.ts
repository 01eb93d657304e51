import { describe, expect, it } from 'vitest';
import { ageText, numberText, sizeText } from './text';

describe('sizeText', () => {
  // The cases of tests/unit/test_text.py, and ties, where Python rounds to even.
  it.each([
    [0, '0 B'],
    [1, '1 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1250, '1.2 kB'],
    [1350, '1.4 kB'],
    [1750, '1.8 kB'],
    [4100, '4.1 kB'],
    [8_000_000, '8.0 MB'],
    [999_949, '999.9 kB'],
    [999_950, '1.0 MB'],
    [12.4e9, '12.4 GB'],
    [1e18, '1000.0 PB']
  ])('%d bytes', (nbytes, text) => {
    expect(sizeText(nbytes)).toBe(text);
  });
});

describe('ageText', () => {
  it.each([
    [-5, 'just now'],
    [0.9, 'just now'],
    [1, '1.0 s ago'],
    [2.5, '2.0 s ago'],
    [9.4, '9.0 s ago'],
    [9.5, '10 s ago'],
    [119, '119 s ago'],
    [120, '2 min ago'],
    [150, '2 min ago'],
    [210, '4 min ago'],
    [7199, '120 min ago'],
    [7200, '2 h ago'],
    [172_799, '48 h ago'],
    [172_800, '2 days ago'],
    [864_000, '10 days ago']
  ])('%d seconds', (seconds, text) => {
    expect(ageText(1000, undefined, 1000 + seconds)).toBe(text);
  });
});

describe('numberText', () => {
  it.each([
    [0, '0'],
    [-12, '-12'],
    [3.14159265, '3.142'],
    [1234567, '1235000'],
    [1.5e-9, '1.5e-9']
  ])('%d', (value, text) => {
    expect(numberText(value)).toBe(text);
  });
});
