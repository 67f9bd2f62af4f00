//! Users as `wharf users` has them: who there is, and one who is made with a key and policies at once.

use super::{Error, Iam, User, holder, no_such, policies, resource::arn};
use crate::control::{
    api::{AddUser, AddedUser, UserPolicy, UserSummary},
    auth::{IdentityKind, MANAGED, is_name, policy::Kind},
};

impl Iam {
    /// Every user: those of the catalog and those of the credentials file, by name.
    pub(in crate::control) async fn user_summaries(&self) -> Result<Vec<UserSummary>, Error> {
        let users = self.all::<User>().await?.into_iter();
        let mut summaries: Vec<UserSummary> = users
            .map(|user| {
                let attached = user.policies.attached.into_iter();
                UserSummary {
                    arn: arn(self.account(), "user", &user.path, &user.name),
                    policies: attached.chain(user.policies.inline.into_keys()).collect(),
                    access_keys: user.keys,
                    in_file: false,
                    name: user.name,
                }
            })
            .collect();
        summaries.extend(
            self.identities
                .file()
                .list()
                .into_iter()
                .filter_map(|identity| {
                    let IdentityKind::User { name } = &identity.kind else {
                        return None;
                    };
                    Some(UserSummary {
                        name: name.clone(),
                        arn: identity.arn.clone(),
                        policies: Vec::new(),
                        access_keys: Vec::new(),
                        in_file: true,
                    })
                }),
        );
        summaries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(summaries)
    }

    /// Makes a user with these policies and an access key. If something is wrong there is no user.
    pub(in crate::control) async fn add_user(
        &self,
        name: &str,
        add: AddUser,
    ) -> Result<AddedUser, Error> {
        if !is_name(name) {
            let shown: String = name.chars().take(80).collect();
            let message =
                format!("`{shown}` is no user's name: 1 to 64 letters, digits or `+=,.@_-`");
            return Err(Error::new("InvalidInputException", message));
        }
        self.make_user(name, "/", std::collections::BTreeMap::new())
            .await?;
        let made = async {
            for policy in &add.policies {
                self.grant(name, policy).await?;
            }
            self.make_access_key(name).await
        };
        match made.await {
            Ok(key) => Ok(AddedUser {
                arn: arn(self.account(), "user", "/", name),
                access_key_id: key.id,
                secret_access_key: key.secret,
            }),
            Err(error) => {
                if let Err(again) = self.remove_whole_user(name).await {
                    tracing::error!(error = %again, user = name, "a user that was half made is still there");
                }
                Err(error)
            }
        }
    }

    /// Removes a user with all they have.
    pub(in crate::control) async fn remove_user_of(&self, name: &str) -> Result<(), Error> {
        self.remove_whole_user(name).await
    }

    /// Gives a user a policy that can be attached, or one of their own.
    async fn grant(&self, name: &str, policy: &UserPolicy) -> Result<(), Error> {
        match policy {
            UserPolicy::Attached(named) => {
                let managed = MANAGED.iter().find(|managed| managed.name == named);
                let arn = match managed {
                    Some(managed) => managed.arn(),
                    None if named.starts_with("arn:") => named.clone(),
                    None => arn(self.account(), "policy", "/", named),
                };
                if self.policy(&arn).await?.is_none() {
                    let names: Vec<&str> = MANAGED.iter().map(|managed| managed.name).collect();
                    return Err(no_such(format!(
                        "There is no policy `{named}` here. There are {}, and those that were made with CreatePolicy.",
                        names.join(", ")
                    )));
                }
                self.attach_to::<User>(name, &arn).await
            }
            UserPolicy::Document {
                name: own,
                document,
            } => {
                policies::check(document, Kind::Identity)?;
                let put = |user: &mut User| holder::put(user, own, document);
                self.change(name, put).await.map(drop)
            }
        }
    }
}
