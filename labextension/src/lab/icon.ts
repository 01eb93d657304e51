import { LabIcon } from '@jupyterlab/ui-components';

/** A memory module: its board, with notches at both sides, its chips, and its contacts. */
export const memoryIcon = new LabIcon({
  name: 'jshm:memory',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="16">
  <g class="jp-icon3" fill="#616161">
    <path fill-rule="evenodd" d="M3 5h18a1 1 0 0 1 1 1v3a2 2 0 0 0 0 4v3H2v-3a2 2 0 0 0 0-4V6a1 1 0 0 1 1-1zM6 8v5h3V8zM10.5 8v5h3V8zM15 8v5h3V8z"/>
    <path d="M2 17.5h4.5v2.5H3a1 1 0 0 1-1-1zM8 17.5h3.5v2.5H8zM13 17.5h9V19a1 1 0 0 1-1 1h-8z"/>
  </g>
</svg>`
});
