//! The rights that highwater needs in a namespace.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::PodError;
use super::cluster::Cluster;
use crate::runner::patience::Patience;

/// The resources, and the verbs that are needed for each.
const NEEDED: [(&str, Option<&str>, &[&str]); 3] = [
    ("pods", None, &["create", "get", "list", "watch", "delete"]),
    ("pods", Some("log"), &["get"]),
    ("configmaps", None, &["create", "list", "delete"]),
];

/// What `--when-fits` needs in the whole cluster.
const FOR_WHEN_FITS: [&str; 2] = ["nodes", "pods"];

impl Cluster {
    /// The rights that this user lacks in the namespace, such as `create pods`.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn missing_rights(&self) -> Result<Vec<String>, PodError> {
        let mut missing = Vec::new();
        for (resource, part, verbs) in NEEDED {
            for verb in verbs {
                let attributes = ResourceAttributes {
                    namespace: Some(self.namespace().to_owned()),
                    verb: Some((*verb).to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: part.map(str::to_owned),
                    ..ResourceAttributes::default()
                };
                if !self.allows(attributes)? {
                    let part = part.map(|part| format!("/{part}")).unwrap_or_default();
                    missing.push(format!("{verb} {resource}{part}"));
                }
            }
        }
        Ok(missing)
    }

    /// The rights in the whole cluster that this user lacks for [`ClusterOptions::when_fits`].
    ///
    /// # Errors
    /// If the API server does not answer.
    ///
    /// [`ClusterOptions::when_fits`]: super::ClusterOptions::when_fits
    pub fn missing_for_when_fits(&self) -> Result<Vec<String>, PodError> {
        let mut missing = Vec::new();
        for resource in FOR_WHEN_FITS {
            let attributes = ResourceAttributes {
                verb: Some("list".to_owned()),
                resource: Some(resource.to_owned()),
                ..ResourceAttributes::default()
            };
            if !self.allows(attributes)? {
                missing.push(format!("list {resource}"));
            }
        }
        Ok(missing)
    }

    fn allows(&self, attributes: ResourceAttributes) -> Result<bool, PodError> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None },
            ..SelfSubjectAccessReview::default()
        };
        let patience = &mut Patience::new(None);
        let answer = self.call(patience, "ask for the rights", reviews.create(&PostParams::default(), &review))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
