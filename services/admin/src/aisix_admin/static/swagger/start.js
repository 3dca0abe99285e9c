// Starts Swagger UI on the description of this API. In a file of its own: the page's policy runs no inline script.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/admin/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // nothing of this gateway is sent to a validator elsewhere
    persistAuthorization: false, // a key lives as long as the page
    queryConfigEnabled: false, // no ?url= of somebody else's document
  });
});
