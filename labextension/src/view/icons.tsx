/** Icons as inline SVG, in the color of the text around them. */
import * as React from 'react';

const PATHS = {
  array: 'M2 2h12v12H2zM2 6h12M2 10h12M6 2v12M10 2v12',
  table: 'M2 3h12v10H2zM2 6.5h12M7 6.5V13',
  function: 'M11.5 3.2c-1.8-.9-3 .1-3.4 2L6.7 11c-.4 1.9-1.6 2.7-3.2 1.9M5 7h5.5',
  object: 'M8 1.8 13.5 5v6L8 14.2 2.5 11V5zM2.5 5 8 8.2 13.5 5M8 8.2v6',
  refresh: 'M13 4.5A6 6 0 1 0 14 8M13.5 1.5v3.3h-3.3',
  more: 'M3 8h.01M8 8h.01M13 8h.01',
  insert: 'M8 2v8M4.5 6.8 8 10.2l3.5-3.4M2.5 13.5h11',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  release: 'M2.5 4.5h11M6 4.5v-2h4v2M4 4.5l.7 9h6.6l.7-9M6.7 7v4M9.3 7v4',
  close: 'M4 4l8 8M12 4l-8 8',
  down: 'M4 6l4 4 4-4',
  right: 'M6 4l4 4-4 4',
  open: 'M9 2.5h4.5V7M13.5 2.5 8 8M11.5 9.5v4h-9v-9h4',
  check: 'M3 8.5l3.2 3L13 4.5',
  warning: 'M8 2 14.5 13.5h-13zM8 6.5v3.5M8 12h.01',
  info: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 7.3v4M8 5h.01'
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): React.JSX.Element {
  return (
    <svg className={`jshm-icon jshm-icon-${name}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Button(props: React.ButtonHTMLAttributes<HTMLButtonElement>): React.JSX.Element {
  return <button type="button" {...props} />;
}

/** A button that shows only an icon. Its label says what it does. */
export function IconButton(
  props: { icon: IconName; label: string } & React.ButtonHTMLAttributes<HTMLButtonElement>
): React.JSX.Element {
  const { icon, label, ...rest } = props;
  return (
    <Button className="jshm-icon-button" title={label} aria-label={label} {...rest}>
      <Icon name={icon} />
    </Button>
  );
}
