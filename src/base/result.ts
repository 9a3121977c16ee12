/** The three outcomes of reading bytes. Bad input is data, not an exception. */
export type Read<T> =
  | { readonly kind: 'value'; readonly value: T; readonly bytesRead: number }
  | { readonly kind: 'need-more' }
  | { readonly kind: 'malformed'; readonly why: string };

export const needMore = { kind: 'need-more' } as const;

export function readValue<T>(value: T, bytesRead: number): Read<T> {
  return { kind: 'value', value, bytesRead };
}

export function malformed(why: string): Read<never> {
  return { kind: 'malformed', why };
}
