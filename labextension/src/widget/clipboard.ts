/** Copy text, also in a page without HTTPS, where browsers have no clipboard API. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // A frame may forbid this, and allow the old way below.
    }
  }
  const area = document.createElement('textarea');
  area.value = text;
  area.style.position = 'fixed';
  area.style.opacity = '0';
  document.body.append(area);
  area.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- a page without HTTPS has no other way
  const done = document.execCommand('copy');
  area.remove();
  if (!done) {
    throw new Error('The browser does not allow copying');
  }
}
