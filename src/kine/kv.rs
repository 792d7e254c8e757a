//! Ranges, puts, deletions and compaction.

use std::sync::atomic::Ordering::Relaxed;

use http::grpc::Status;
use store::{Class, Done, Error, Room, Txn};
use wire::etcd::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, Message, PutRequest, PutResponse,
    RangeRequest, RequestOp, ResponseOp,
};

use crate::front::{Answer, Front, unsigned};
use crate::refusal::{COMPACTED, EMPTY_KEY, FUTURE_REVISION, status_of};
use crate::shape::{bytes_of, query, shape, span};
use crate::txn::{Teller, request};

/// A range of more keys than this waits before it is read.
const MANY_KEYS: usize = 4096;
/// What a key of many takes, about: it is not known of each before.
const KEY_BYTES: usize = 512;

impl Front {
    pub(crate) async fn range(&self, ask: RangeRequest) -> Result<Answer, Status> {
        if ask.key.is_empty() {
            return Err(EMPTY_KEY.status());
        }
        let store = &self.0.store;
        if !ask.serializable {
            store.fresh().await.map_err(status_of)?;
        }
        let query = query(&ask);
        let answers = &self.0.answers;
        let mut charge = None;
        if query.limit == 0 || query.limit > MANY_KEYS {
            let n_keys = store.count_up_to(&query.span, MANY_KEYS).await.map_err(status_of)?;
            if n_keys == MANY_KEYS {
                let n_keys = store.count(&query.span).await.map_err(status_of)?;
                charge = Some(answers.take(n_keys * KEY_BYTES).await?);
            }
        }
        let mut found = store.range(&query).await.map_err(status_of)?;
        if charge.is_none() {
            // How much it is shows only when it was read, for the state changes.
            let bytes = if ask.count_only { 0 } else { bytes_of(&found.items) };
            charge = answers.try_take(bytes);
            if charge.is_none() {
                drop(found);
                charge = Some(answers.take(bytes).await?);
                found = store.range(&query).await.map_err(status_of)?;
            }
        }
        let revision = if query.at.is_some() { store.revision() } else { found.revision };
        let mut answer = shape(&ask, found);
        answer.header = self.header(revision);
        Ok((answer.encode(), charge))
    }

    pub(crate) async fn put(&self, ask: PutRequest) -> Result<PutResponse, Status> {
        match self.one(RequestOp::Put(ask)).await? {
            ResponseOp::Put(answer) => Ok(answer),
            _ => Ok(PutResponse::default()),
        }
    }

    pub(crate) async fn delete_range(&self, ask: DeleteRangeRequest) -> Result<Answer, Status> {
        let mut charge = None;
        if ask.prev_kv && !ask.range_end.is_empty() {
            let span = span(&ask.key, &ask.range_end);
            let n_keys = self.0.store.count(&span).await.map_err(status_of)?;
            charge = Some(self.0.answers.take(n_keys * KEY_BYTES).await?);
        }
        match self.one(RequestOp::DeleteRange(ask)).await? {
            ResponseOp::DeleteRange(answer) => Ok((answer.encode(), charge)),
            _ => Ok((Vec::new(), None)),
        }
    }

    /// A transaction of one operation.
    async fn one(&self, ask: RequestOp) -> Result<ResponseOp, Status> {
        let then = vec![request(&ask)?];
        let done = self.write(Txn { then, ..Txn::default() }).await?;
        let mut answers =
            Teller::new(self, &done).tell(std::slice::from_ref(&ask), &done.responses);
        Ok(answers.pop().unwrap_or_default())
    }

    pub(crate) async fn write(&self, mut txn: Txn) -> Result<Done, Status> {
        txn.foreign = true;
        self.0.store.txn(txn, Class::Durable, Room::Whole).await.map_err(status_of)
    }

    pub(crate) async fn compact(
        &self,
        ask: &CompactionRequest,
    ) -> Result<CompactionResponse, Status> {
        let (store, revision) = (&self.0.store, unsigned(ask.revision));
        store.fresh().await.map_err(status_of)?;
        if revision > store.revision() {
            return Err(FUTURE_REVISION.status());
        }
        if ask.revision <= self.0.compacted.fetch_max(ask.revision, Relaxed) {
            return Err(COMPACTED.status());
        }
        match store.compact(revision).await {
            // The store has forgotten more than it was told to.
            Ok(()) | Err(Error::Compacted { .. }) => {}
            Err(error) => return Err(status_of(error)),
        }
        Ok(CompactionResponse { header: self.header_now() })
    }
}
