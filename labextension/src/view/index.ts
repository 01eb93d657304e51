export { attachCode, isVariable, variableFor } from './code';
export { SegmentBrowser, type ISegmentBrowserProps } from './SegmentBrowser';
export { defaultState } from './state';
export { ageText, sizeText } from './text';
export { nullTranslator } from './translate';
export * from './types';
