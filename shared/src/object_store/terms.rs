//! The terms on which a bucket is written: what its owner's policy may ask of every object, whichever call makes it.

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types::{ObjectCannedAcl, ServerSideEncryption, StorageClass};

use crate::config::{Acl, Encryption, S3};
use crate::layout::IDENTITY;

#[derive(Debug, Clone)]
pub(super) struct Terms {
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    acl: Option<ObjectCannedAcl>,
    owner: Option<String>,
    archive: Option<(String, StorageClass)>,
}

impl Terms {
    pub(super) fn of(config: &S3) -> Self {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let class = given(&config.archive_storage_class);
        Self {
            encryption: match config.server_side_encryption {
                Encryption::OfBucket => None,
                Encryption::Aes256 => Some(ServerSideEncryption::Aes256),
                Encryption::Kms => Some(ServerSideEncryption::AwsKms),
                Encryption::KmsDsse => Some(ServerSideEncryption::AwsKmsDsse),
            },
            kms_key: given(&config.kms_key_id),
            acl: match config.acl {
                Acl::OfBucket => None,
                Acl::BucketOwnerFullControl => Some(ObjectCannedAcl::BucketOwnerFullControl),
            },
            owner: given(&config.expected_bucket_owner),
            archive: class.map(|class| (config.ingested.clone(), StorageClass::from(class.as_str()))),
        }
    }

    /// The same, of a bucket that may belong to another account.
    pub(super) fn of_any_owner(&self) -> Self {
        Self { owner: None, ..self.clone() }
    }

    /// The account the bucket must belong to.
    pub(super) fn owner(&self) -> Option<String> {
        self.owner.clone()
    }

    /// What says whose the prefix is, is no part of a batch, and is written anew now and then.
    fn class_of(&self, key: &str) -> Option<StorageClass> {
        let archive = self.archive.as_ref().filter(|(prefix, _)| key.starts_with(prefix));
        archive.filter(|_| !key.ends_with(IDENTITY)).map(|(_, class)| class.clone())
    }

    pub(super) fn put(&self, request: PutObjectFluentBuilder, key: &str) -> PutObjectFluentBuilder {
        request
            .set_storage_class(self.class_of(key))
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_acl(self.acl.clone())
            .set_expected_bucket_owner(self.owner())
    }

    pub(super) fn copy(&self, request: CopyObjectFluentBuilder, to: &str) -> CopyObjectFluentBuilder {
        request
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_acl(self.acl.clone())
            .set_storage_class(self.class_of(to))
            .set_expected_bucket_owner(self.owner())
            .set_expected_source_bucket_owner(self.owner())
    }
}
