//! Paths and their methods, known by name: the router is made of them, and the OpenAPI document is compared with them.

use super::Service;
use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodRouter;

/// Every path that is served.
#[derive(Default)]
pub(in crate::api) struct Paths {
    router: Router<Service>,
    known: Vec<(&'static str, &'static str)>,
}

/// What a path does under one method.
pub(in crate::api) struct Method {
    name: &'static str,
    router: MethodRouter<Service>,
}

/// What `GET` does.
pub(in crate::api) fn get<T: 'static>(handler: impl Handler<T, Service>) -> Method {
    Method { name: "get", router: axum::routing::get(handler) }
}

/// What `POST` does.
pub(in crate::api) fn post<T: 'static>(handler: impl Handler<T, Service>) -> Method {
    Method { name: "post", router: axum::routing::post(handler) }
}

impl Paths {
    /// Adds a method of a path; a path with two methods is added twice.
    pub(in crate::api) fn route(self, path: &'static str, method: Method) -> Self {
        self.route_as(path, path, method)
    }

    /// Adds a method of a path whose form the router can't express: it is `known` by another one, and the handler distinguishes
    /// whether it was meant.
    pub(in crate::api) fn route_as(
        mut self,
        known: &'static str,
        routed: &'static str,
        method: Method,
    ) -> Self {
        self.router = self.router.route(routed, method.router);
        self.known.push((known, method.name));
        self
    }

    /// Every path with every method, lower-case.
    #[cfg(test)]
    pub(in crate::api) fn known(&self) -> &[(&'static str, &'static str)] {
        &self.known
    }

    /// The router.
    pub(in crate::api) fn into_router(self) -> Router<Service> {
        tracing::debug!(paths = self.known.len(), "the API's paths are routed");
        self.router
    }
}
