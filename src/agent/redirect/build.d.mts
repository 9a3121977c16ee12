export function buildRedirect(target?: string): Promise<void>;
