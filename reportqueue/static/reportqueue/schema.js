// Shows the API's description with Swagger UI. A call that is tried uses the person's session, or a token.
"use strict";

const place = document.getElementById("swagger-ui");

function withCsrf(request) {
  const safe = ["GET", "HEAD", "OPTIONS", undefined].includes(request.method);
  // Only to this site: the token is a secret of the session.
  if (!safe && new URL(request.url, document.baseURI).origin === location.origin) {
    request.headers[place.dataset.csrfHeader] = place.dataset.csrfToken;
  }
  return request;
}

SwaggerUIBundle({
  url: new URL("../", location.href).href,
  domNode: place,
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
  requestInterceptor: withCsrf,
});
