// The console's HTTP API: requests with the key, errors as values with their code, and the event stream.

const BASE = new URL('api/', document.baseURI);

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? '';
  }
}

export const key = {
  get: () => sessionStorage.getItem('key') ?? '',
  set: (value) => sessionStorage.setItem('key', value),
};

function headers(more = {}) {
  return key.get() ? { Authorization: `Bearer ${key.get()}`, ...more } : more;
}

async function fail(response) {
  const body = await response.json().catch(() => null);
  throw new ApiError(response.status, body?.error);
}

export async function call(method, path, body) {
  const json = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const response = await fetch(new URL(path, BASE), {
    method, headers: headers(json), body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) await fail(response);
  return response.status === 204 ? null : response.json();
}

/** A picture as {blob, etag}, or null if it is the one with `etag`. */
export async function picture(path, etag = '') {
  const known = etag ? { 'If-None-Match': etag } : {};
  const response = await fetch(new URL(path, BASE), { headers: headers(known), cache: etag ? 'no-store' : 'default' });
  if (response.status === 304) return null;
  if (!response.ok) await fail(response);
  return { blob: await response.blob(), etag: response.headers.get('ETag') ?? '' };
}

/** Read a phone's events until the stream ends; `after` is the last entry already seen. */
export async function events(phone, after, signal, each) {
  const query = after === null ? '' : `?after=${after}`;
  const response = await fetch(new URL(`phones/${phone}/events${query}`, BASE), { headers: headers(), signal });
  if (!response.ok) await fail(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith('data: ')) each(JSON.parse(block.slice(6)));
    }
  }
}
