/** A token that only the traffic-manager takes has this audience: with it nobody can call the API server. */
export const tokenAudience = 'nearfield.dev';

/** The gRPC metadata `authorization` of a call, as releases since 2.31 send it. */
export const bearerPrefix = 'Bearer ';
export const metadataOf = (token: string): string => `${bearerPrefix}${token}`;
